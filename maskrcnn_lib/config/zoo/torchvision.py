"""torchvision's detection models and ImageNet bodies; the addresses and figures are its own.

The names of its files end with the first digits of their SHA-256.
"""

from maskrcnn_lib.config.zoo.entry import ModelEntry, figures

_HOST = "https://download.pytorch.org/models"
_FASTER, _MASK, _KEYPOINT = ("box",), ("box", "mask"), ("box", "keypoint")
# Builder: name of the file, SHA-256, tasks, figures, size in bytes.
_DETECTION = {
    "fasterrcnn_resnet50_fpn": ("_coco", "258fb6c6", _FASTER, (37.0,), 167_502_836),
    "maskrcnn_resnet50_fpn": ("_coco", "bf2d0c1e", _MASK, (37.9, 34.6), 178_090_079),
    "keypointrcnn_resnet50_fpn": ("_coco", "fc266e95", _KEYPOINT, (54.6, 65.0), None),
    "retinanet_resnet50_fpn": ("_coco", "eeacb38b", _FASTER, (36.4,), None),
    "retinanet_resnet50_fpn_v2": ("_coco", "5905b1c5", _FASTER, (41.5,), None),
    "fasterrcnn_resnet50_fpn_v2": ("_coco", "dd69338a", _FASTER, (46.7,), None),
    "maskrcnn_resnet50_fpn_v2": ("_coco", "73cbd019", _MASK, (47.4, 41.8), None),
    "fasterrcnn_mobilenet_v3_large_fpn": ("", "fb6a3cc7", _FASTER, (32.8,), None),
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("", "907ea3f9", _FASTER, (22.8,), None),
}
_CLASSIFIERS = {
    "mobilenet_v2": "b0353104",
    "resnet18": "f37072fd",
    "resnet50": "0676ba61",
    "resnet101": "63fe2227",
    "resnet152": "394f9c45",
    "resnext101_32x8d": "8ba56ff5",
}


def _detection(
    builder: str,
    suffix: str,
    sha256: str,
    tasks: tuple[str, ...],
    values: tuple[float, ...],
    size: int | None,
) -> ModelEntry:
    file_name = f"{builder}{suffix}-{sha256}.pth"
    return ModelEntry(
        name=f"torchvision/{builder}",
        file_name=file_name,
        url=f"{_HOST}/{file_name}",
        sha256=sha256,
        size=size,
        note="trained by torchvision on COCO (COCO_V1)",
        published=figures(*values, tasks=tasks),
    )


TORCHVISION = tuple(_detection(builder, *facts) for builder, facts in _DETECTION.items())
TORCHVISION_IMAGENET = tuple(
    ModelEntry(
        name=f"ImageNetPretrained/torchvision/{builder}",
        file_name=f"{builder}-{sha256}.pth",
        url=f"{_HOST}/{builder}-{sha256}.pth",
        sha256=sha256,
        note="trained by torchvision on ImageNet (IMAGENET1K_V1)",
    )
    for builder, sha256 in _CLASSIFIERS.items()
)
