"""Which detector a config means, and where it says how many classes there are."""

from maskrcnn_lib.config.node import CfgNode

# One-stage detectors, and the section of MODEL that holds their keys.
_ONE_STAGE = {"RetinaNet": "RETINANET", "YOLOF": "YOLOF"}


def architecture(cfg: CfgNode) -> str:
    """Name of the meta-architecture; maskrcnn-benchmark says RetinaNet by ``RETINANET_ON``."""
    return "RetinaNet" if cfg.MODEL.RETINANET_ON else cfg.MODEL.META_ARCHITECTURE


def is_one_stage(cfg: CfgNode) -> bool:
    """Whether anchors become detections without RoI heads; ``RPN_ONLY`` means nothing then."""
    return architecture(cfg) in _ONE_STAGE


def only_proposes(cfg: CfgNode) -> bool:
    """Whether the model stops after the proposals, and finds no classes."""
    return cfg.MODEL.RPN_ONLY and not is_one_stage(cfg)


def is_cascade(cfg: CfgNode) -> bool:
    """Whether the box head has several stages."""
    return len(cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS) > 0


def class_section(cfg: CfgNode) -> str:
    """Section of ``MODEL`` whose ``NUM_CLASSES`` counts the model's classes."""
    return _ONE_STAGE.get(architecture(cfg), "ROI_BOX_HEAD")


def num_classes(cfg: CfgNode) -> int:
    """The model's classes with the background."""
    return cfg.MODEL[class_section(cfg)].NUM_CLASSES


def library_body(cfg: CfgNode) -> tuple[str, str, str]:
    """Of a body of another library its name there and what is built on it.

    Returns:
        ``("timm", "resnet18", "FPN")`` for ``MODEL.BACKBONE.CONV_BODY: timm/resnet18-FPN``; empty
        library and kind for names without slash.
    """
    library, slash, rest = cfg.MODEL.BACKBONE.CONV_BODY.partition("/")
    name, _, kind = rest.partition("-")
    return (library, name, kind) if slash else ("", library, "")
