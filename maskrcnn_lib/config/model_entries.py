"""The published weights that the library knows by name: where each file lies and how to tell it.

Names and addresses of maskrcnn-benchmark and Detectron, torchvision's own addresses, the
COCO-trained FBNetV3-A models of D2Go, and the model that comes with the package. An entry that a
config of this library describes entirely is named like that config.
"""

from dataclasses import dataclass

_DETECTRON = "https://dl.fbaipublicfiles.com/detectron"
_PYTORCH = "https://download.pytorch.org/models"


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One file of weights.

    Attributes:
        name: catalog name, as in ``catalog://NAME``.
        file_name: name of the file on disk, in the cache and in ``MASKRCNN_WEIGHTS_DIR``.
        url: where it is published; "" when it must be brought by hand.
        sha256: SHA-256 in hexadecimal, whole or the first digits, as far as it is published.
        size: bytes; None when not known.
        config: the config that builds its model; "" when there is none (bodies for training,
            models that this library does not build).
        note: what it is, in a few words.
    """

    name: str
    file_name: str
    url: str = ""
    sha256: str = ""
    size: int | None = None
    config: str = ""
    note: str = ""


def _imagenet(name: str, path: str, note: str) -> ModelEntry:
    return ModelEntry(
        name=f"ImageNetPretrained/{name}",
        file_name=path.rpartition("/")[2],
        url=f"{_DETECTRON}/ImageNetPretrained/{path}",
        note=note,
    )


def _caffe2(model_id: str, model: str, signature: str, config: str = "") -> ModelEntry:
    prefix = "keypoints_" if "keypoint" in model else ""
    return ModelEntry(
        name=f"Caffe2Detectron/COCO/{model_id}/{model}",
        file_name=f"{model}.pkl",
        url=(
            f"{_DETECTRON}/{model_id}/12_2017_baselines/{model}.yaml.{signature}/output/train/"
            f"{prefix}coco_2014_train%3A{prefix}coco_2014_valminusminival/generalized_rcnn/"
            "model_final.pkl"
        ),
        config=config,
        note="trained by Detectron (Caffe2) on COCO",
    )


def _benchmark(model: str, *, has_config: bool) -> ModelEntry:
    return ModelEntry(
        name=model,
        file_name=f"{model}.pth",
        url=f"{_PYTORCH}/maskrcnn/{model}.pth",
        config=model if has_config else "",
        note="trained by maskrcnn-benchmark on COCO",
    )


_IMAGENET = (
    _imagenet("MSRA/R-50", "MSRA/R-50.pkl", "ResNet-50 of MSRA, ImageNet"),
    _imagenet("MSRA/R-101", "MSRA/R-101.pkl", "ResNet-101 of MSRA, ImageNet"),
    _imagenet("MSRA/R-50-GN", "47261647/R-50-GN.pkl", "ResNet-50, group norm, ImageNet"),
    _imagenet("MSRA/R-101-GN", "47592356/R-101-GN.pkl", "ResNet-101, group norm, ImageNet"),
    _imagenet("FAIR/20171220/X-101-32x8d", "20171220/X-101-32x8d.pkl", "ResNeXt-101, ImageNet"),
    _imagenet("FBResNeXt/X-101-64x4d", "FBResNeXt/X-101-64x4d.pkl", "ResNeXt-101, ImageNet"),
    ModelEntry(
        name="ImageNetPretrained/torchvision/mobilenet_v2",
        file_name="mobilenet_v2-b0353104.pth",
        url=f"{_PYTORCH}/mobilenet_v2-b0353104.pth",
        sha256="b0353104",
        size=14_212_972,
        note="MobileNetV2 of torchvision, ImageNet (IMAGENET1K_V1)",
    ),
)

_CAFFE2 = tuple(
    _caffe2(model_id, model, signature, config)
    for model_id, model, signature, config in (
        (
            "35857197",
            "e2e_faster_rcnn_R-50-C4_1x",
            "01_33_49.iAX0mXvW",
            "caffe2/e2e_faster_rcnn_R_50_C4_1x_caffe2",
        ),
        (
            "35857345",
            "e2e_faster_rcnn_R-50-FPN_1x",
            "01_36_30.cUF7QR7I",
            "caffe2/e2e_faster_rcnn_R_50_FPN_1x_caffe2",
        ),
        (
            "35857890",
            "e2e_faster_rcnn_R-101-FPN_1x",
            "01_38_50.sNxI7sX7",
            "caffe2/e2e_faster_rcnn_R_101_FPN_1x_caffe2",
        ),
        (
            "36761737",
            "e2e_faster_rcnn_X-101-32x8d-FPN_1x",
            "06_31_39.5MIHi1fZ",
            "caffe2/e2e_faster_rcnn_X_101_32x8d_FPN_1x_caffe2",
        ),
        (
            "35858791",
            "e2e_mask_rcnn_R-50-C4_1x",
            "01_45_57.ZgkA7hPB",
            "caffe2/e2e_mask_rcnn_R_50_C4_1x_caffe2",
        ),
        (
            "35858933",
            "e2e_mask_rcnn_R-50-FPN_1x",
            "01_48_14.DzEQe4wC",
            "caffe2/e2e_mask_rcnn_R_50_FPN_1x_caffe2",
        ),
        (
            "35861795",
            "e2e_mask_rcnn_R-101-FPN_1x",
            "02_31_37.KqyEK4tT",
            "caffe2/e2e_mask_rcnn_R_101_FPN_1x_caffe2",
        ),
        (
            "36761843",
            "e2e_mask_rcnn_X-101-32x8d-FPN_1x",
            "06_35_59.RZotkLKI",
            "caffe2/e2e_mask_rcnn_X_101_32x8d_FPN_1x_caffe2",
        ),
        (
            "37129812",
            "e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x",
            "09_35_36.8pzTQKYK",
            "caffe2/e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x_caffe2",
        ),
        (
            "37697547",
            "e2e_keypoint_rcnn_R-50-FPN_1x",
            "08_42_54.kdzV35ao",
            "caffe2/e2e_keypoint_rcnn_R_50_FPN_1x_caffe2",
        ),
    )
)

_DETECTRON_RETINANET = tuple(
    ModelEntry(
        name=f"detectron/{model}",
        file_name=f"{model}.pkl",
        config=f"detectron/{model}",
        note="trained by Detectron (Caffe2) on COCO; bring its model_final.pkl under this name",
    )
    for model in (
        f"retinanet_{body}-FPN_{schedule}"
        for body in ("R-50", "R-101", "X-101-32x8d", "X-101-64x4d")
        for schedule in ("1x", "2x")
    )
)

_BENCHMARK = (
    *(
        _benchmark(f"e2e_{kind}_rcnn_{body}_1x", has_config=True)
        for kind in ("faster", "mask")
        for body in ("R_50_C4", "R_50_FPN", "R_101_FPN", "X_101_32x8d_FPN")
    ),
    *(
        _benchmark(model, has_config=False)
        for model in (
            "e2e_faster_rcnn_fbnet_chamv1a_600",
            "e2e_faster_rcnn_fbnet_600",
            "e2e_mask_rcnn_fbnet_xirb16d_dsmask",
            "e2e_mask_rcnn_fbnet_600",
        )
    ),
)

_TORCHVISION = (
    ModelEntry(
        name="torchvision/fasterrcnn_resnet50_fpn",
        file_name="fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        url=f"{_PYTORCH}/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        sha256="258fb6c6",
        size=167_502_836,
        config="torchvision/fasterrcnn_resnet50_fpn",
        note="trained by torchvision on COCO (COCO_V1)",
    ),
    ModelEntry(
        name="torchvision/maskrcnn_resnet50_fpn",
        file_name="maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        url=f"{_PYTORCH}/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        sha256="bf2d0c1e",
        size=178_090_079,
        config="torchvision/maskrcnn_resnet50_fpn",
        note="trained by torchvision on COCO (COCO_V1)",
    ),
    ModelEntry(
        name="torchvision/keypointrcnn_resnet50_fpn",
        file_name="keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
        url=f"{_PYTORCH}/keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
        sha256="fc266e95",
        config="torchvision/keypointrcnn_resnet50_fpn",
        note="trained by torchvision on COCO's persons (COCO_V1)",
    ),
    ModelEntry(
        name="torchvision/retinanet_resnet50_fpn",
        file_name="retinanet_resnet50_fpn_coco-eeacb38b.pth",
        url=f"{_PYTORCH}/retinanet_resnet50_fpn_coco-eeacb38b.pth",
        sha256="eeacb38b",
        config="torchvision/retinanet_resnet50_fpn",
        note="trained by torchvision on COCO (COCO_V1)",
    ),
    ModelEntry(
        name="torchvision/retinanet_resnet50_fpn_v2",
        file_name="retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
        url=f"{_PYTORCH}/retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
        sha256="5905b1c5",
        config="torchvision/retinanet_resnet50_fpn_v2",
        note="trained by torchvision on COCO (COCO_V1)",
    ),
)

_D2GO = (
    ModelEntry(
        name="d2go/mask_rcnn_fbnetv3a_C4",
        file_name="mask_rcnn_fbnetv3a_float.pth",
        sha256="769ce9d805a8a165546db787e1d1317ca7c51c13462febfd11a52f2cc787a506",
        size=10_275_238,
        config="d2go/mask_rcnn_fbnetv3a_C4",
        note="trained by D2Go on COCO (model zoo id 268421013), dequantised from its int8 export",
    ),
    ModelEntry(
        name="d2go/faster_rcnn_fbnetv3a_C4",
        file_name="faster_rcnn_fbnetv3a_C4_float.pth",
        sha256="23b935d294da2d5a7066527027c78fddbc83a94d16fac4645209d7f97e2c7184",
        size=7_019_055,
        config="d2go/faster_rcnn_fbnetv3a_C4",
        note="trained by D2Go on COCO (model zoo id 246823121), dequantised from its int8 export",
    ),
    ModelEntry(
        name="d2go/keypoint_rcnn_fbnetv3a_dsmask_C4",
        file_name="keypoint_rcnn_fbnetv3a_dsmask_float.pth",
        sha256="cc560c29eff77b4ecc2f39913d35db2919d2ccd0b5871f6e3004e4028eda4eec",
        size=6_063_445,
        config="d2go/keypoint_rcnn_fbnetv3a_dsmask_C4",
        note="trained by D2Go on COCO (model zoo id 250430934), dequantised from its int8 export",
    ),
)

MODEL_ENTRIES: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        *_IMAGENET,
        *_CAFFE2,
        *_DETECTRON_RETINANET,
        *_BENCHMARK,
        *_TORCHVISION,
        *_D2GO,
    )
}
