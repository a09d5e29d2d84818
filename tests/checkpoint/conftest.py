"""Checkpoints of other toolboxes, rebuilt: their complete names and shapes, with cheap values.

The names are those that Detectron and detectron2 write. A tensor here is one zero expanded to the
stated shape, so that a whole model costs no memory.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from .python2_pickle import Python2Pickle

Shapes = dict[str, tuple[int, ...]]


class Body(NamedTuple):
    """A ResNet or ResNeXt: blocks of each stage, groups and width of the bottlenecks."""

    blocks: tuple[int, int, int, int]
    groups: int = 1
    width_per_group: int = 64

    def bottlenecks(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yields (stage 2..5, block, channels in, width of the bottleneck, channels out)."""
        channels = 64
        for stage, blocks in enumerate(self.blocks, start=2):
            factor = 2 ** (stage - 2)
            for block in range(blocks):
                yield (
                    stage,
                    block,
                    channels,
                    self.groups * self.width_per_group * factor,
                    256 * factor,
                )
                channels = 256 * factor


BODIES = {
    "R_50": Body((3, 4, 6, 3)),
    "R_101": Body((3, 4, 23, 3)),
    "X_101_64x4d": Body((3, 4, 23, 3), 64, 4),
    "X_101_32x8d": Body((3, 4, 23, 3), 32, 8),
    "X-152-32x8d": Body((3, 8, 36, 3), 32, 8),
}
R50 = BODIES["R_50"]


def _caffe2_body(body: Body) -> Shapes:
    shapes: Shapes = {"conv1_w": (64, 3, 7, 7), "res_conv1_bn_s": (64,), "res_conv1_bn_b": (64,)}
    for stage, block, channels, width, out in body.bottlenecks():
        convs = {
            "2a": (width, channels, 1, 1),
            "2b": (width, width // body.groups, 3, 3),
            "2c": (out, width, 1, 1),
        }
        if block == 0:
            convs["1"] = (out, channels, 1, 1)
        for branch, shape in convs.items():
            blob = f"res{stage}_{block}_branch{branch}"
            shapes |= {f"{blob}_w": shape, f"{blob}_bn_s": shape[:1], f"{blob}_bn_b": shape[:1]}
    return shapes


def _layers(layers: Shapes) -> Shapes:
    """Weight and bias of layers given by name and weight shape."""
    return {
        name: shape
        for layer, weight in layers.items()
        for name, shape in ((f"{layer}_w", weight), (f"{layer}_b", weight[:1]))
    }


def _caffe2_rpn(channels: int, anchors: int) -> Shapes:
    return _layers(
        {
            "conv_rpn": (channels, channels, 3, 3),
            "rpn_cls_logits": (anchors, channels, 1, 1),
            "rpn_bbox_pred": (4 * anchors, channels, 1, 1),
        }
    )


def _caffe2_fpn(body: Body) -> Shapes:
    layers: Shapes = {}
    for stage, blocks in enumerate(body.blocks, start=2):
        lateral = "" if stage == 5 else "_lateral"
        layers[f"fpn_inner_res{stage}_{blocks - 1}_sum{lateral}"] = (256, 64 * 2**stage, 1, 1)
        layers[f"fpn_res{stage}_{blocks - 1}_sum"] = (256, 256, 3, 3)
    layers |= {
        "conv_rpn_fpn2": (256, 256, 3, 3),
        "rpn_cls_logits_fpn2": (3, 256, 1, 1),
        "rpn_bbox_pred_fpn2": (12, 256, 1, 1),
        "fc6": (1024, 12544),
        "fc7": (1024, 1024),
    }
    return _layers(layers)


def _caffe2_retinanet(body: Body) -> Shapes:
    layers: Shapes = {"fpn_6": (256, 2048, 3, 3), "fpn_7": (256, 256, 3, 3)}
    for stage, blocks in enumerate(body.blocks[1:], start=3):
        lateral = "" if stage == 5 else "_lateral"
        layers[f"fpn_inner_res{stage}_{blocks - 1}_sum{lateral}"] = (256, 64 * 2**stage, 1, 1)
        layers[f"fpn_res{stage}_{blocks - 1}_sum"] = (256, 256, 3, 3)
    for branch, rows in (("cls", 9 * 80), ("bbox", 9 * 4)):
        layers |= {f"retnet_{branch}_conv_n{i}_fpn3": (256, 256, 3, 3) for i in range(4)}
        layers[f"retnet_{branch}_pred_fpn3"] = (rows, 256, 3, 3)
    return _layers(layers)


def _group_normed(shapes: Shapes, *layers: str) -> Shapes:
    """The same layers as Detectron's ``ConvGN`` writes them: no bias, scale and shift behind."""
    shapes = {name.replace("_bn_", "_gn_"): shape for name, shape in shapes.items()}
    for layer in layers:
        width = shapes.pop(f"{layer}_b")
        shapes |= {f"{layer}_gn_s": width, f"{layer}_gn_b": width}
    return shapes


def _caffe2_group_norm(body: Body) -> Shapes:
    """Mask R-CNN with group norm: in the body, the pyramid, and convolutions of both heads."""
    fpn = _caffe2_fpn(body)
    pyramid = [
        name.removesuffix("_w")
        for name in fpn
        if name.startswith(("fpn_res", "fpn_inner")) and name.endswith("_w")
    ]
    boxes = {f"head_conv{i}": (256, 256, 3, 3) for i in range(1, 5)}
    masks = {f"_mask_fcn{i}": (256, 256, 3, 3) for i in range(1, 5)}
    last = {"conv5_mask": (256, 256, 2, 2), "mask_fcn_logits": (81, 256, 1, 1)}
    shapes = _caffe2_body(body) | fpn | _layers(boxes | masks | last) | _caffe2_box(81, 1024)
    for blob in ("fc7_w", "fc7_b", "res_conv1_bn_s", "res_conv1_bn_b"):
        del shapes[blob]
    stem = {"conv1_gn_s": (64,), "conv1_gn_b": (64,)}
    return stem | _group_normed(shapes, *pyramid, *boxes, *masks)


def _caffe2_box(classes: int, channels: int) -> Shapes:
    return _layers({"cls_score": (classes, channels), "bbox_pred": (4 * classes, channels)})


def caffe2_shapes(kind: str, body: Body = R50) -> Shapes:
    """Blob names and shapes of Detectron's files, with momentum where it was trained."""
    if kind == "imagenet":
        classifier = {"conv1_b": (64,), "fc1000_w": (1000, 2048), "fc1000_b": (1000,)}
        return _caffe2_body(body) | classifier
    if kind == "faster_c4":
        shapes = _caffe2_body(body) | _caffe2_rpn(1024, 15) | _caffe2_box(81, 2048)
    elif kind == "mask_c4":
        mask = {"conv5_mask_w": (2048, 256, 2, 2), "conv5_mask_b": (256,)}
        shapes = (
            caffe2_shapes("faster_c4", body) | mask | _layers({"mask_fcn_logits": (81, 256, 1, 1)})
        )
    elif kind == "rpn_c4":
        body_blobs = {
            name: shape for name, shape in _caffe2_body(body).items() if not name.startswith("res5")
        }
        shapes = body_blobs | _caffe2_rpn(1024, 15)
    elif kind == "rpn_fpn":
        shapes = _caffe2_body(body) | _caffe2_fpn(body)
        shapes = {name: shapes[name] for name in shapes if not name.startswith(("fc6", "fc7"))}
    elif kind.startswith("fast_"):  # and no RPN
        whole = caffe2_shapes(kind.removeprefix("fast_"), body)
        rpn = ("conv_rpn", "rpn_")
        return {name: shape for name, shape in whole.items() if not name.startswith(rpn)}
    elif kind == "retinanet":
        shapes = _caffe2_body(body) | _caffe2_retinanet(body)
    elif kind == "faster_fpn":
        shapes = _caffe2_body(body) | _caffe2_fpn(body) | _caffe2_box(81, 1024)
    elif kind == "mask_fpn":
        fcn = {f"_[mask]_fcn{i}": (256, 256, 3, 3) for i in range(1, 5)}
        mask = _layers({**fcn, "conv5_mask": (256, 256, 2, 2), "mask_fcn_logits": (81, 256, 1, 1)})
        shapes = _caffe2_body(body) | _caffe2_fpn(body) | _caffe2_box(81, 1024) | mask
    elif kind == "mask_fpn_gn":
        shapes = _caffe2_group_norm(body)
    elif kind == "keypoint_fpn":
        fcn = {f"conv_fcn{i}": (512, 512 if i > 1 else 256, 3, 3) for i in range(1, 9)}
        keypoints = _layers(fcn) | {
            "kps_score_lowres_w": (512, 17, 4, 4),
            "kps_score_lowres_b": (17,),
        }
        shapes = _caffe2_body(body) | _caffe2_fpn(body) | _caffe2_box(2, 1024) | keypoints
    else:
        raise ValueError(kind)
    trained = [name for name in shapes if "_bn_" not in name and not name.endswith("_momentum")]
    return shapes | {f"{name}_momentum": shapes[name] for name in trained}


def _detectron2_body(prefix: str, head_prefix: str) -> Shapes:
    def conv(name: str, shape: tuple[int, ...]) -> Shapes:
        norm = ("weight", "bias", "running_mean", "running_var")
        return {f"{name}.weight": shape} | {f"{name}.norm.{key}": shape[:1] for key in norm}

    shapes = conv(f"{prefix}stem.conv1", (64, 3, 7, 7))
    for stage, block, channels, width, out in R50.bottlenecks():
        home = f"{head_prefix if stage == 5 else prefix}res{stage}.{block}"
        shapes |= conv(f"{home}.conv1", (width, channels, 1, 1))
        shapes |= conv(f"{home}.conv2", (width, width, 3, 3))
        shapes |= conv(f"{home}.conv3", (out, width, 1, 1))
        if block == 0:
            shapes |= conv(f"{home}.shortcut", (out, channels, 1, 1))
    return shapes


_DETECTRON2_HEADS: dict[str, Shapes] = {
    "mask_fpn": {
        **{f"roi_heads.mask_head.mask_fcn{i}": (256, 256, 3, 3) for i in range(1, 5)},
        "roi_heads.mask_head.deconv": (256, 256, 2, 2),
        "roi_heads.mask_head.predictor": (80, 256, 1, 1),
    },
    "keypoint_fpn": {
        f"roi_heads.keypoint_head.conv_fcn{i}": (512, 512 if i > 1 else 256, 3, 3)
        for i in range(1, 9)
    },
}


def detectron2_shapes(kind: str) -> Shapes:
    """Names and shapes of detectron2's R-50 files."""
    if kind == "imagenet":
        return _detectron2_body("", "") | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    if kind == "retinanet":
        return _detectron2_retinanet()
    if kind == "cascade_mask_fpn":
        return _detectron2_cascade()
    if kind == "mask_fpn_gn":
        return _detectron2_group_norm()
    fpn = kind.endswith("_fpn")
    classes = 1 if kind == "keypoint_fpn" else 80
    channels, hidden, anchors = (256, 1024, 3) if fpn else (1024, 2048, 15)
    rpn = "proposal_generator.rpn_head."
    layers: Shapes = {
        f"{rpn}conv": (channels, channels, 3, 3),
        f"{rpn}objectness_logits": (anchors, channels, 1, 1),
        f"{rpn}anchor_deltas": (4 * anchors, channels, 1, 1),
        "roi_heads.box_predictor.cls_score": (classes + 1, hidden),
        "roi_heads.box_predictor.bbox_pred": (4 * classes, hidden),
    }
    if fpn:
        body = _detectron2_body("backbone.bottom_up.", "backbone.bottom_up.")
        for level in range(2, 6):
            layers[f"backbone.fpn_lateral{level}"] = (256, 64 * 2**level, 1, 1)
            layers[f"backbone.fpn_output{level}"] = (256, 256, 3, 3)
        layers["roi_heads.box_head.fc1"] = (1024, 12544)
        layers["roi_heads.box_head.fc2"] = (1024, 1024)
        layers |= _DETECTRON2_HEADS[kind]
    else:
        body = _detectron2_body("backbone.", "roi_heads.")
    shapes = body | {
        name: shape
        for layer, weight in layers.items()
        for name, shape in ((f"{layer}.weight", weight), (f"{layer}.bias", weight[:1]))
    }
    if kind == "keypoint_fpn":  # a transposed convolution has its outputs second
        last = "roi_heads.keypoint_head.score_lowres."
        shapes |= {f"{last}weight": (512, 17, 4, 4), f"{last}bias": (17,)}
    return shapes


def _detectron2_cascade() -> Shapes:
    """Three box heads whose offsets do not depend on the class, and one mask head."""
    single = detectron2_shapes("mask_fpn")
    shapes = {name: s for name, s in single.items() if not name.startswith("roi_heads.box_")}
    for stage in range(3):
        for layer, weight in {
            f"roi_heads.box_head.{stage}.fc1": (1024, 12544),
            f"roi_heads.box_head.{stage}.fc2": (1024, 1024),
            f"roi_heads.box_predictor.{stage}.cls_score": (81, 1024),
            f"roi_heads.box_predictor.{stage}.bbox_pred": (4, 1024),
        }.items():
            shapes |= {f"{layer}.weight": weight, f"{layer}.bias": weight[:1]}
    return shapes


def _detectron2_group_norm() -> Shapes:
    """Norms of body, pyramid, four convolutions of the box head and the mask head; one fc."""
    shapes = {
        name: shape
        for name, shape in detectron2_shapes("mask_fpn").items()
        if not name.endswith((".running_mean", ".running_var")) and ".fc2." not in name
    }
    for i in range(1, 5):
        shapes[f"roi_heads.box_head.conv{i}.weight"] = (256, 256, 3, 3)
    for name in list(shapes):
        layer, _, parameter = name.rpartition(".")
        if layer.startswith(
            ("backbone.fpn_", "roi_heads.mask_head.mask_fcn", "roi_heads.box_head.c")
        ):
            if parameter == "bias":
                del shapes[name]
            else:
                shapes |= {f"{layer}.norm.weight": (256,), f"{layer}.norm.bias": (256,)}
    return shapes


def _detectron2_retinanet() -> Shapes:
    layers: Shapes = {
        "backbone.top_block.p6": (256, 2048, 3, 3),
        "backbone.top_block.p7": (256, 256, 3, 3),
        "head.cls_score": (9 * 80, 256, 3, 3),
        "head.bbox_pred": (9 * 4, 256, 3, 3),
    }
    for level in range(3, 6):
        layers[f"backbone.fpn_lateral{level}"] = (256, 64 * 2**level, 1, 1)
        layers[f"backbone.fpn_output{level}"] = (256, 256, 3, 3)
    for tower in ("cls_subnet", "bbox_subnet"):
        layers |= {f"head.{tower}.{2 * i}": (256, 256, 3, 3) for i in range(4)}
    shapes = _detectron2_body("backbone.bottom_up.", "backbone.bottom_up.")
    for layer, weight in layers.items():
        shapes |= {f"{layer}.weight": weight, f"{layer}.bias": weight[:1]}
    return shapes


def zeros(shapes: Shapes) -> dict[str, Tensor]:
    """One zero per name, expanded to its shape."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def caffe2_blobs() -> Callable[..., dict[str, Tensor]]:
    """Function from the kind of a model, and its body (R_50), to Detectron's blobs of it."""
    return lambda kind, body="R_50": zeros(caffe2_shapes(kind, BODIES[body]))


@pytest.fixture(scope="session")
def detectron2_tensors() -> Callable[[str], dict[str, Tensor]]:
    """Function from the kind of an R-50 model to detectron2's tensors of it."""
    return lambda kind: zeros(detectron2_shapes(kind))


@pytest.fixture
def python2_pickle(tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    """Function that writes nested dictionaries of strings and arrays as Python 2 pickled them."""

    def write(content: dict[str, object]) -> Path:
        pickle = Python2Pickle()
        pickle.dictionary(content)
        path = tmp_path / "model_final.pkl"
        path.write_bytes(pickle.finish())
        return path

    return write
