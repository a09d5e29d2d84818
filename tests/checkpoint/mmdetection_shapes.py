"""mmdetection's checkpoints, rebuilt: their complete names and shapes, with zeros."""

import torch


def _layers(layers):
    return {
        name: shape
        for layer, weight in layers.items()
        for name, shape in ((f"{layer}.weight", weight), (f"{layer}.bias", weight[:1]))
    }


def _body(builder="resnet50"):
    """Names and shapes of torchvision's ResNet or ResNeXt, which mmdetection's has."""
    from torchvision.models import resnet

    with torch.device("meta"):
        state = getattr(resnet, builder)(weights=None).state_dict()
    return {name: tuple(t.shape) for name, t in state.items() if not name.startswith("fc.")}


def _rpn(channels, anchors):
    return {
        "rpn_head.rpn_conv": (channels, channels, 3, 3),
        "rpn_head.rpn_cls": (anchors, channels, 1, 1),
        "rpn_head.rpn_reg": (4 * anchors, channels, 1, 1),
    }


def _box(channels, prefix="roi_head.", classes=80, background=0):
    return {
        f"{prefix}bbox_head.fc_cls": (classes + 1, channels),
        f"{prefix}bbox_head.fc_reg": (4 * (classes + background), channels),
    }


def _fpn(first, width=128):
    names = {}
    for index, stage in enumerate(range(first, 5)):
        names[f"neck.lateral_convs.{index}.conv"] = (256, width * 2**stage, 1, 1)
        names[f"neck.fpn_convs.{index}.conv"] = (256, 256, 3, 3)
    return names


def _shared_fcs(head, channels=256):
    return {f"{head}shared_fcs.0": (1024, channels * 49), f"{head}shared_fcs.1": (1024, 1024)}


def _mask(head, background):
    layers = {f"{head}convs.{i}.conv": (256, 256, 3, 3) for i in range(4)}
    layers[f"{head}upsample"] = (256, 256, 2, 2)
    layers[f"{head}conv_logits"] = (80 + background, 256, 1, 1)
    return layers


def _mask_scoring(head, background):
    layers = {f"{head}convs.{i}": (256, 257 if i == 0 else 256, 3, 3) for i in range(4)}
    layers |= {f"{head}fcs.0": (1024, 256 * 49), f"{head}fcs.1": (1024, 1024)}
    return layers | {f"{head}fc_mask_iou": (80 + background, 1024)}


def _point_rend(prefix):
    mask, point = f"{prefix}mask_head.", f"{prefix}point_head."
    layers = {f"{mask}downsample_conv.conv": (256, 256, 2, 2), f"{mask}fcs.0": (1024, 256 * 49)}
    layers |= {f"{mask}fcs.1": (1024, 1024), f"{mask}fc_logits": (80 * 49, 1024)}
    layers |= {f"{point}fcs.{i}.conv": (256, 256 + 80, 1) for i in range(3)}
    return layers | {f"{point}fc_logits": (80, 256 + 80, 1)}


def _cascade(prefix, background, *, with_masks):
    layers = {}
    for stage in range(3):
        head = f"{prefix}bbox_head.{stage}."
        layers |= {f"{head}fc_cls": (81, 1024), f"{head}fc_reg": (4, 1024)} | _shared_fcs(head)
        if with_masks:
            layers |= _mask(f"{prefix}mask_head.{stage}.", background)
    return layers


def _norm(layer, channels):
    counter = {f"{layer}.num_batches_tracked": ()}
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{layer}.{name}": (channels,) for name in names} | counter


def _yolof():
    """Names and shapes of neck and head; a convolution whose module has a norm has no bias."""
    shapes = _layers(
        {
            "neck.lateral_conv": (512, 2048, 1, 1),
            "neck.fpn_conv": (512, 512, 3, 3),
            "bbox_head.cls_score": (400, 512, 3, 3),
            "bbox_head.bbox_pred": (20, 512, 3, 3),
            "bbox_head.object_pred": (5, 512, 3, 3),
        }
    )
    shapes |= _norm("neck.lateral_norm", 512) | _norm("neck.fpn_norm", 512)
    modules = {}
    for block in range(4):
        name = f"neck.dilated_encoder_blocks.{block}"
        modules |= {
            f"{name}.conv1": (128, 512, 1, 1),
            f"{name}.conv2": (128, 128, 3, 3),
            f"{name}.conv3": (512, 128, 1, 1),
        }
    for tower, length in (("cls_subnet", 2), ("bbox_subnet", 4)):
        modules |= {f"bbox_head.{tower}.{i}": (512, 512, 3, 3) for i in range(length)}
    for name, weight in modules.items():
        shapes |= {f"{name}.conv.weight": weight} | _norm(f"{name}.bn", weight[0])
    return shapes


def mmdetection_tensors(kind, *, version=2, builder="resnet50"):
    """The complete file of a COCO model, as zeros."""
    prefix, background = ("", 1) if version == 1 else ("roi_head.", 0)
    body = {f"backbone.{name}": shape for name, shape in _body(builder).items()}
    if kind == "c4":
        moved = {n: f"{prefix}shared_head.{n[9:]}" for n in body if n.startswith("backbone.layer4")}
        body = {moved.get(name, name): shape for name, shape in body.items()}
        layers = _rpn(1024, 15) | _box(2048, prefix, background=background)
    elif kind == "retinanet":
        width = 32 if builder == "resnet18" else 128
        layers = _fpn(2, width) | {
            "neck.fpn_convs.3.conv": (256, 16 * width, 3, 3),
            "neck.fpn_convs.4.conv": (256, 256, 3, 3),
            "bbox_head.retina_cls": (720, 256, 3, 3),
            "bbox_head.retina_reg": (36, 256, 3, 3),
        }
        for tower in ("cls_convs", "reg_convs"):
            layers |= {f"bbox_head.{tower}.{i}.conv": (256, 256, 3, 3) for i in range(4)}
    elif kind == "yolof":
        return _zeros(body | _yolof())
    elif kind == "rpn":
        layers = _fpn(1) | _rpn(256, 3)
    elif "cascade" in kind:
        layers = _fpn(1) | _rpn(256, 3)
        layers |= _cascade(prefix, background, with_masks="mask" in kind)
    else:
        channels = 2048 if kind == "dc5" else 256
        layers = _rpn(2048, 15) if kind == "dc5" else _fpn(1) | _rpn(256, 3)
        layers |= _box(1024, prefix, background=background)
        layers |= _shared_fcs(f"{prefix}bbox_head.", channels)
    if kind in ("mask", "ms"):
        layers |= _mask(f"{prefix}mask_head.", background)
    if kind == "point":
        layers |= _point_rend(prefix)
    if kind == "ms":
        layers |= _mask_scoring(f"{prefix}mask_iou_head.", background)
    return _zeros(body | _layers(layers))


def _zeros(shapes):
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
