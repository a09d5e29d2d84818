"""Detectron's ImageNet bodies and its models of December 2017 and April 2018 (Caffe2).

Each file stands beside its MD5 sum. The addresses of COCO models hold a signature that is known for
ten of them, which maskrcnn-benchmark lists; the others must be brought by hand.
"""

from maskrcnn_lib.config.zoo.entry import ModelEntry, figures

_HOST = "https://dl.fbaipublicfiles.com/detectron"
_NOTE = "trained by Detectron (Caffe2) on COCO"
_BODIES = ("R-50-C4", "R-50-FPN", "R-101-FPN", "X-101-64x4d-FPN", "X-101-32x8d-FPN")
_PYRAMIDS = _BODIES[1:]

# Figures of "1x" and "2x" for each of _BODIES, box and mask.
_TWO_STAGE = {
    "fast_rcnn": (
        ((34.4,), (35.6,)),
        ((36.4,), (36.8,)),
        ((38.5,), (39.0,)),
        ((40.4,), (39.8,)),
        ((40.6,), (39.7,)),
    ),
    "mask_rcnn": (
        ((35.5, 31.3), (36.9, 32.5)),
        ((37.3, 33.7), (37.7, 34.0)),
        ((39.4, 35.6), (40.0, 35.9)),
        ((41.3, 37.0), (41.1, 36.6)),
        ((41.3, 37.0), (40.7, 36.3)),
    ),
    "e2e_faster_rcnn": (
        ((34.8,), (36.5,)),
        ((36.7,), (37.9,)),
        ((39.4,), (39.8,)),
        ((41.5,), (40.8,)),
        ((41.3,), (40.6,)),
    ),
    "e2e_mask_rcnn": (
        ((35.8, 31.4), (37.8, 32.8)),
        ((37.7, 33.9), (38.6, 34.5)),
        ((40.0, 35.9), (40.9, 36.4)),
        ((42.4, 37.5), (42.2, 37.2)),
        ((42.1, 37.3), (41.7, 36.9)),
    ),
}
# The same for each of _PYRAMIDS.
_RETINANET = ((35.7, 35.7), (37.7, 37.8), (39.8, 39.2), (39.5, 38.6))
# "1x" and "s1x", box and keypoint.
_KEYPOINT = {
    "keypoint_rcnn": (
        ((52.7, 64.1), (53.4, 65.5)),
        ((53.5, 65.0), (54.6, 66.0)),
        ((55.8, 66.7), (56.3, 67.1)),
        ((55.4, 66.2), (55.9, 67.0)),
    ),
    "e2e_keypoint_rcnn": (
        ((53.6, 64.2), (54.3, 65.4)),
        ((54.5, 64.8), (55.3, 65.8)),
        ((56.3, 66.0), (56.9, 66.8)),
        ((56.0, 66.0), (56.9, 67.0)),
    ),
}
_PROPOSALS = (51.6, 57.2, 58.2, 59.4, 59.5)
_PERSON_PROPOSALS = (64.0, 65.2, 65.9, 66.2)
_LARGEST = "e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x"
_OTHERS = {
    _LARGEST: (45.2, 39.7),
    "e2e_mask_rcnn_R-50-FPN_2x_gn": (40.3, 35.7),
    "e2e_mask_rcnn_R-101-FPN_2x_gn": (41.8, 36.8),
    "e2e_mask_rcnn_R-50-FPN_3x_gn": (40.8, 36.1),
    "e2e_mask_rcnn_R-101-FPN_3x_gn": (42.3, 37.2),
    "scratch_e2e_mask_rcnn_R-50-FPN_3x_gn": (39.5, 35.2),
    "scratch_e2e_mask_rcnn_R-101-FPN_3x_gn": (41.0, 36.4),
}

# Model: its number and signature in the address.
_ADDRESSED = {
    "e2e_faster_rcnn_R-50-C4_1x": ("35857197", "01_33_49.iAX0mXvW"),
    "e2e_faster_rcnn_R-50-FPN_1x": ("35857345", "01_36_30.cUF7QR7I"),
    "e2e_faster_rcnn_R-101-FPN_1x": ("35857890", "01_38_50.sNxI7sX7"),
    "e2e_faster_rcnn_X-101-32x8d-FPN_1x": ("36761737", "06_31_39.5MIHi1fZ"),
    "e2e_mask_rcnn_R-50-C4_1x": ("35858791", "01_45_57.ZgkA7hPB"),
    "e2e_mask_rcnn_R-50-FPN_1x": ("35858933", "01_48_14.DzEQe4wC"),
    "e2e_mask_rcnn_R-101-FPN_1x": ("35861795", "02_31_37.KqyEK4tT"),
    "e2e_mask_rcnn_X-101-32x8d-FPN_1x": ("36761843", "06_35_59.RZotkLKI"),
    _LARGEST: ("37129812", "09_35_36.8pzTQKYK"),
    "e2e_keypoint_rcnn_R-50-FPN_1x": ("37697547", "08_42_54.kdzV35ao"),
}


def _published() -> dict[str, dict[str, float]]:
    """Figures of every model by the name of its file of settings."""
    published = {}
    for kind, rows in _TWO_STAGE.items():
        for body, schedules in zip(_BODIES, rows, strict=True):
            for schedule, values in zip(("1x", "2x"), schedules, strict=True):
                published[f"{kind}_{body}_{schedule}"] = figures(*values)
    for body, schedules in zip(_PYRAMIDS, _RETINANET, strict=True):
        for schedule, value in zip(("1x", "2x"), schedules, strict=True):
            published[f"retinanet_{body}_{schedule}"] = figures(value)
    for kind, rows in _KEYPOINT.items():
        for body, schedules in zip(_PYRAMIDS, rows, strict=True):
            for schedule, values in zip(("1x", "s1x"), schedules, strict=True):
                name = f"{kind}_{body}_{schedule}"
                published[name] = figures(*values, tasks=("box", "keypoint"))
    for prefix, bodies, recalls in (
        ("rpn", _BODIES, _PROPOSALS),
        ("rpn_person_only", _PYRAMIDS, _PERSON_PROPOSALS),
    ):
        for body, recall in zip(bodies, recalls, strict=True):
            published[f"{prefix}_{body}_1x"] = figures(recall, tasks=("proposal",))
    return published | {name: figures(*values) for name, values in _OTHERS.items()}


def _address(model: str) -> str:
    if model not in _ADDRESSED:
        return ""
    number, signature = _ADDRESSED[model]
    prefix = "keypoints_" if "keypoint" in model else ""
    return (
        f"{_HOST}/{number}/12_2017_baselines/{model}.yaml.{signature}/output/train/"
        f"{prefix}coco_2014_train%3A{prefix}coco_2014_valminusminival/generalized_rcnn/"
        "model_final.pkl"
    )


def _coco(name: str, model: str, published: dict[str, float], config: str = "") -> ModelEntry:
    url = _address(model)
    return ModelEntry(
        name=name,
        file_name=f"{model}.pkl",
        url=url,
        md5_url=url and f"{url}.md5sum",
        config=config,
        note=_NOTE if url else f"{_NOTE}; bring its model_final.pkl under this name",
        published=published,
    )


def _benchmark_config(model: str) -> str:
    """Name of maskrcnn-benchmark's config of a model: no hyphens but in its largest."""
    return f"caffe2/{model if model == _LARGEST else model.replace('-', '_')}_caffe2"


def _imagenet(name: str, path: str, note: str) -> ModelEntry:
    url = f"{_HOST}/ImageNetPretrained/{path}"
    return ModelEntry(
        name=f"ImageNetPretrained/{name}",
        file_name=path.rpartition("/")[2],
        url=url,
        md5_url=f"{url}.md5sum",
        note=f"{note}, ImageNet",
    )


IMAGENET = (
    _imagenet("MSRA/R-50", "MSRA/R-50.pkl", "ResNet-50 of MSRA"),
    _imagenet("MSRA/R-101", "MSRA/R-101.pkl", "ResNet-101 of MSRA"),
    _imagenet("MSRA/R-50-GN", "47261647/R-50-GN.pkl", "ResNet-50, group norm"),
    _imagenet("MSRA/R-101-GN", "47592356/R-101-GN.pkl", "ResNet-101, group norm"),
    _imagenet("FAIR/20171220/X-101-32x8d", "20171220/X-101-32x8d.pkl", "ResNeXt-101"),
    _imagenet("FBResNeXt/X-101-64x4d", "FBResNeXt/X-101-64x4d.pkl", "ResNeXt-101"),
    _imagenet(
        "25093814/X-152-32x8d-IN5k",
        "25093814/X-152-32x8d-IN5k.pkl",
        "ResNeXt-152, 5 000 classes",
    ),
)
DETECTRON = tuple(
    _coco(f"detectron/{model}", model, published) for model, published in _published().items()
)
BENCHMARK_CAFFE2 = tuple(
    _coco(
        f"Caffe2Detectron/COCO/{number}/{model}",
        model,
        _published()[model],
        _benchmark_config(model),
    )
    for model, (number, _) in _ADDRESSED.items()
)
