"""mmdetection's files: complete lists of names, class order of both versions, its numerics."""

import math
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.class_names import coco_class_names
from maskrcnn_lib.checkpoint.exporters import export_weights
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.importers import mmdetection, torchvision
from maskrcnn_lib.checkpoint.loading import import_content
from maskrcnn_lib.checkpoint.mmengine_files import Inert
from maskrcnn_lib.checkpoint.native import FORMAT
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.poolers import build_pooler
from maskrcnn_lib.modeling.rpn.anchor_generator import build_anchor_generator, cell_anchors

BOX, MASK = "roi_heads.box.predictor.", "roi_heads.mask.predictor."
# Number of tensors that mmdetection's own models have.
TENSORS = {
    "mask": 360,
    "faster": 348,
    "c4": 328,
    "retinanet": 354,
    "cascade": 364,
    "cascade-mask": 400,
    "ms": 374,
    "point": 364,
    "yolof": 446,
}


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


def _model(config):
    with torch.device("meta"):
        return build_detection_model(get_cfg(config))


CONFIGS = {
    "mask-rcnn_r50_fpn_1x_coco": ("mask", "resnet50"),
    "mask-rcnn_r50-caffe_fpn_1x_coco": ("mask", "resnet50"),
    "faster-rcnn_r50_fpn_1x_coco": ("faster", "resnet50"),
    "faster-rcnn_r101_fpn_1x_coco": ("faster", "resnet101"),
    "faster-rcnn_r50-caffe_c4-1x_coco": ("c4", "resnet50"),
    "faster-rcnn_r50-caffe-dc5_1x_coco": ("dc5", "resnet50"),
    "mask-rcnn_x101-64x4d_fpn_ms-poly-3x_coco": ("mask", "resnext101_64x4d"),
    "rpn_r101_fpn_1x_coco": ("rpn", "resnet101"),
    "retinanet_r50_fpn_1x_coco": ("retinanet", "resnet50"),
    "retinanet_r18_fpn_1x_coco": ("retinanet", "resnet18"),
    "ms-rcnn_r50-caffe_fpn_1x_coco": ("ms", "resnet50"),
    "point-rend_r50-caffe_fpn_ms-1x_coco": ("point", "resnet50"),
    "cascade-rcnn_r50_fpn_1x_coco": ("cascade", "resnet50"),
    "cascade-mask-rcnn_r50_fpn_1x_coco": ("cascade-mask", "resnet50"),
    "yolof_r50-c5_8xb8-1x_coco": ("yolof", "resnet50"),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("version", [1, 2])
def test_file_fills_the_model(config, version):
    kind, builder = CONFIGS[config]
    tensors = mmdetection_tensors(kind, version=version, builder=builder)
    if builder == "resnet50" and kind in TENSORS:
        assert len(tensors) == TENSORS[kind]
    model = _model(f"mmdet/{config}")
    content = {"meta": {"epoch": 12}, "state_dict": tensors}
    report = load_weights(model, content, strict=True)
    assert report.loaded == list(model.state_dict())
    old = version == 1 and kind not in ("retinanet", "rpn", "yolof")
    assert (report.format, report.dialect) == ("mmdetection", "mmdet_v1" if old else "mmdet")
    assert report.class_names == (None if kind == "rpn" else coco_class_names())
    counters = [name for name in report.ignored if name != "epoch"]
    assert all(name.endswith("num_batches_tracked") for name in counters)


def test_renamed_and_permuted_keys_are_reported():
    tensors = mmdetection_tensors("mask")
    tensors["neck.lateral_convs.4.conv.bias"] = tensors.pop("neck.lateral_convs.3.conv.bias")
    tensors["roi_head.bbox_head.fc_cls.weight"], tensors["roi_head.bbox_head.fc_reg.weight"] = (
        tensors["roi_head.bbox_head.fc_reg.weight"],
        tensors["roi_head.bbox_head.fc_cls.weight"],
    )
    report = load_weights(_model("mmdet/mask-rcnn_r50_fpn_1x_coco"), {"state_dict": tensors})
    assert report.missing == ["backbone.fpn.fpn_inner4.bias"]
    assert report.unexpected == ["backbone.fpn.fpn_inner5.bias"]
    assert set(report.reinitialised) == {f"{BOX}cls_score.weight", f"{BOX}bbox_pred.weight"}


def test_renamed_and_permuted_keys_of_yolof_are_reported():
    tensors = mmdetection_tensors("yolof")
    renamed = "neck.dilated_encoder_blocks.2.conv2.conv.weight"
    tensors["neck.dilated_encoder_blocks.4.conv2.conv.weight"] = tensors.pop(renamed)
    tensors["bbox_head.cls_subnet.1.bias"] = tensors.pop("bbox_head.cls_subnet.1.bn.bias")
    first, second = "bbox_head.bbox_pred.weight", "bbox_head.object_pred.weight"
    tensors[first], tensors[second] = tensors[second], tensors[first]
    report = load_weights(_model("mmdet/yolof_r50-c5_8xb8-1x_coco"), {"state_dict": tensors})
    assert report.missing == ["backbone.fpn.blocks.2.conv2.0.weight", "rpn.head.cls_tower.4.bias"]
    assert report.unexpected == [
        "backbone.fpn.blocks.4.conv2.0.weight",
        "bbox_head.cls_subnet.1.bias",
    ]
    assert set(report.reinitialised) == {
        "rpn.head.bbox_pred.weight",
        "rpn.head.object_logits.weight",
    }


def test_yolof_in_a_native_file_keeps_the_epsilon_of_the_norms_that_learn():
    names = ("backbone.layer1.0.bn1", "neck.fpn_norm", "bbox_head.cls_subnet.0.bn")
    stored = {f"{name}.running_var": torch.tensor([1e-6, 1.0]) for name in names}
    stored["bbox_head.object_pred.bias"] = torch.zeros(5)
    native = export_weights(mmdetection.convert(stored), FORMAT)
    frozen = native.pop("backbone.body.layer1.0.bn1.running_var")
    torch.testing.assert_close(frozen, torch.tensor([1.1e-5, 1.00001]), rtol=1e-6, atol=0)
    for name in ("backbone.fpn.fpn_norm", "rpn.head.cls_tower.1"):
        assert torch.equal(native[f"{name}.running_var"], torch.tensor([1e-6, 1.0]))


def test_layers_of_yolof_come_to_their_places():
    stored = {
        "bbox_head.object_pred.bias": torch.arange(5.0),
        "bbox_head.bbox_subnet.3.bn.running_var": torch.tensor([1.0]),
        "bbox_head.cls_subnet.1.conv.weight": torch.tensor([2.0]),
        "bbox_head.cls_score.bias": torch.arange(15.0),
        "neck.dilated_encoder_blocks.3.conv1.bn.bias": torch.tensor([3.0]),
    }
    imported = mmdetection.convert(stored)
    assert {name: value.tolist() for name, value in imported.tensors.items()} == {
        "rpn.head.object_logits.bias": [0, 1, 2, 3, 4],
        "rpn.head.bbox_tower.10.running_var": [1],
        "rpn.head.cls_tower.3.weight": [2],
        "rpn.head.cls_logits.bias": list(range(15)),  # anchor by anchor as here
        "backbone.fpn.blocks.3.conv1.1.bias": [3],
    }
    assert imported.unmapped == []


def _head(prefix, classes, background):
    rows = classes + background
    return {
        f"{prefix}bbox_head.fc_cls.bias": torch.arange(classes + 1.0),
        f"{prefix}bbox_head.fc_reg.bias": torch.arange(4.0 * rows),
        f"{prefix}mask_head.conv_logits.bias": torch.arange(float(rows)),
    }


def _renamed_from_torchvision(name):
    """The name in mmdetection 2 of a parameter of torchvision's Mask R-CNN."""
    for theirs, here in (
        (r"backbone\.body\.(.*)", r"backbone.\1"),
        (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.(.*)", r"neck.lateral_convs.\1.conv.\2"),
        (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.(.*)", r"neck.fpn_convs.\1.conv.\2"),
        (r"rpn\.head\.conv\.0\.0\.(.*)", r"rpn_head.rpn_conv.\1"),
        (r"rpn\.head\.cls_logits\.(.*)", r"rpn_head.rpn_cls.\1"),
        (r"rpn\.head\.bbox_pred\.(.*)", r"rpn_head.rpn_reg.\1"),
        (r"roi_heads\.box_head\.fc6\.(.*)", r"roi_head.bbox_head.shared_fcs.0.\1"),
        (r"roi_heads\.box_head\.fc7\.(.*)", r"roi_head.bbox_head.shared_fcs.1.\1"),
        (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"roi_head.bbox_head.fc_cls.\1"),
        (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"roi_head.bbox_head.fc_reg.\1"),
        (r"roi_heads\.mask_head\.(\d)\.0\.(.*)", r"roi_head.mask_head.convs.\1.conv.\2"),
        (r"roi_heads\.mask_predictor\.conv5_mask\.(.*)", r"roi_head.mask_head.upsample.\1"),
        (
            r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)",
            r"roi_head.mask_head.conv_logits.\1",
        ),
    ):
        if re.fullmatch(theirs, name):
            return re.sub(theirs, here, name)
    raise AssertionError(name)


def test_the_same_weights_from_torchvision_and_mmdetection_are_the_same_model():
    """mmdetection's outputs equal torchvision's exactly with weights that were moved like this."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    weights = {
        name: torch.rand(value.shape[:1])[(...,) + (None,) * (value.dim() - 1)].expand(value.shape)
        for name, value in _on_meta(maskrcnn_resnet50_fpn).items()
        if value.dim()
    }
    moved = {_renamed_from_torchvision(name): value for name, value in weights.items()}
    for suffix in ("weight", "bias"):
        scores = moved[f"roi_head.bbox_head.fc_cls.{suffix}"]
        moved[f"roi_head.bbox_head.fc_cls.{suffix}"] = torch.cat((scores[1:], scores[:1]))
        for name, rows in (("bbox_head.fc_reg", 4), ("mask_head.conv_logits", 1)):
            moved[f"roi_head.{name}.{suffix}"] = moved[f"roi_head.{name}.{suffix}"][rows:]
    first, second = torchvision.convert(weights), mmdetection.convert(moved)
    assert first.tensors.keys() == second.tensors.keys()
    assert first.norm_eps == second.norm_eps
    for name, value in first.tensors.items():
        unused = {f"{BOX}bbox_pred": 4, f"{MASK}mask_fcn_logits": 1}.get(name.rpartition(".")[0], 0)
        assert torch.equal(value[unused:], second.tensors[name][unused:]), name


def _on_meta(build):
    with torch.device("meta"):
        return build(weights=None, weights_backbone=None).state_dict()


def test_background_is_last_since_version_2():
    native = mmdetection.convert(_head("roi_head.", 3, 0)).tensors
    assert native[f"{BOX}cls_score.bias"].tolist() == [3, 0, 1, 2]
    assert native[f"{BOX}bbox_pred.bias"].tolist() == [0] * 4 + list(range(12))
    assert native[f"{MASK}mask_fcn_logits.bias"].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(("prefix", "background"), [("roi_head.", 0), ("", 1)])
def test_a_stage_of_a_cascade_is_ordered_as_a_head_of_its_own(prefix, background):
    stored = {
        f"{prefix}bbox_head.0.fc_cls.bias": torch.arange(4.0),
        f"{prefix}bbox_head.0.fc_reg.bias": torch.arange(4.0),
        f"{prefix}mask_head.0.conv_logits.bias": torch.arange(3.0 + background),
    }
    native = mmdetection.convert(stored).tensors
    box, mask = "roi_heads.box.stages.0.predictor.", "roi_heads.mask.stages.0.predictor."
    classes = [0, 1, 2, 3] if background else [3, 0, 1, 2]
    assert native[f"{box}cls_score.bias"].tolist() == classes
    # One regressor for all classes, which is the second of ours.
    assert native[f"{box}bbox_pred.bias"].tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    masks = [0, 1, 2, 3] if background else [0, 0, 1, 2]
    assert native[f"{mask}mask_fcn_logits.bias"].tolist() == masks


def test_background_is_first_in_version_1():
    native = mmdetection.convert(_head("", 3, 1)).tensors
    assert native[f"{BOX}cls_score.bias"].tolist() == [0, 1, 2, 3]
    assert native[f"{BOX}bbox_pred.bias"].tolist() == list(range(16))
    assert native[f"{MASK}mask_fcn_logits.bias"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"dataset_meta": {"classes": ("cat", "balloon")}}, ("cat", "balloon")),
        ({"CLASSES": ["cat", "balloon"]}, ("cat", "balloon")),
        ({"CLASSES": "balloon"}, ("balloon",)),
    ],
)
def test_class_names_are_those_that_the_file_tells(meta, names):
    assert mmdetection.stored_class_names({"meta": meta}) == ("__background", *names)
    assert mmdetection.stored_class_names({"meta": {"epoch": 1}}) is None


def test_anchors_are_not_rounded_and_centred_on_the_corner_of_the_grid():
    generator = build_anchor_generator(get_cfg("mmdet/mask-rcnn_r50_fpn_1x_coco"))
    # Stride 4, scale 8, ratio 0.5: width 32 * sqrt(2), height 32 / sqrt(2).
    half = torch.tensor([16 * math.sqrt(2), 16 / math.sqrt(2)])
    torch.testing.assert_close(generator.cell_anchors[0][0], torch.cat((-half, half)))
    # P6 of an image of 800 pixels has 13 cells: they stand 64 pixels apart, not 800 // 13.
    shapes = [(1, 1), (1, 1), (1, 1), (1, 1), (13, 13)]
    grid = generator(shapes, (800, 800), torch.device("cpu"))[4].view(13, 13, 3, 4)
    assert (grid[3, 5, 1] - grid[0, 0, 1]).tolist() == [320, 192, 320, 192]


def test_anchors_of_version_1_are_rounded_closed_boxes():
    # 9 pixels, the first is 0 and the last is 8.
    assert _closed(9, 1, 9) == [0, 0, 9, 9]
    # Ratio 0.5: 45.25 x 22.63 pixels around pixel 1.5, from -20.6 to 23.6 and -9.3 to 12.3.
    assert _closed(32, 0.5, 4) == [-21, -9, 25, 13]


def _closed(size, ratio, stride):
    return cell_anchors([size], [ratio], stride, "closed")[0].tolist()


def test_offsets_are_divided_by_the_standard_deviations():
    head = _model("mmdet/faster-rcnn_r50_fpn_1x_coco").roi_heads.box
    box = torch.tensor([[100.0, 100.0, 200.0, 150.0]])
    # Deviations (0.1, 0.1, 0.2, 0.2): the centre goes by 0.1 of the sides to (160, 130), and the
    # sides grow by exp(0.2).
    decoded = head.box_coder.decode(torch.tensor([[1.0, 1.0, 1.0, 1.0]]), box)
    half = torch.tensor([50.0, 25.0]) * math.exp(0.2)
    centre = torch.tensor([160.0, 130.0])
    torch.testing.assert_close(decoded[0], torch.cat((centre - half, centre + half)))


def test_boxes_shrink_to_16_thousandths_at_most():
    model = _model("mmdet/faster-rcnn_r50_fpn_1x_coco")
    box = torch.tensor([[0.0, 0.0, 1000.0, 1000.0]])
    tiny = torch.tensor([[0.0, 0.0, -1000.0, -1000.0]])
    for coder in (model.rpn.box_coder, model.roi_heads.box.box_coder):
        decoded = coder.decode(tiny, box)
        torch.testing.assert_close(decoded, torch.tensor([[492.0, 492.0, 508.0, 508.0]]))


def test_roi_align_takes_pixels_by_their_centres():
    cfg = get_cfg("mmdet/faster-rcnn_r50_fpn_1x_coco", ["MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 1])
    pooler = build_pooler(cfg, "ROI_BOX_HEAD")
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # the value of a cell is its column
    rois = torch.tensor([[0.0, 4.0, 4.0, 20.0, 20.0]])
    # Columns 1 to 5 of the map of stride 4 have their middle at 3, which is 0.5 behind cell 2.
    maps = [ramp] + [ramp[..., :1, :1]] * 3
    assert pooler(maps, rois).item() == 2.5


_HISTORY_BUFFER = """
import numpy as np

class HistoryBuffer:
    def __init__(self, values):
        self._log_history = np.array(values)

    def mean(self):
        return self._log_history.mean()

    def __getstate__(self):
        return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}
"""


@pytest.fixture
def training_file(tmp_path, monkeypatch):
    """Function that stores a training's content with a log of mmengine's kind, and its path.

    The class exists while it is stored alone, and is pickled as mmengine's: with numpy's arrays and
    with functions, which protocol 2 looks up by getattr.
    """
    name = "mmengine.logging.history_buffer"

    def store(**others):
        with monkeypatch.context() as patched:
            for part in ("mmengine", "mmengine.logging", name):
                patched.setitem(sys.modules, part, types.ModuleType(part))
            exec(_HISTORY_BUFFER, sys.modules[name].__dict__)
            buffer = sys.modules[name].HistoryBuffer([2.0, 1.0])
            hub = {"log_scalars": {"loss": buffer}, "runtime_info": {"lr": np.float64(0.1)}}
            state = {"rpn_head.rpn_cls.bias": torch.tensor([1.0, 2.0, 3.0])}
            meta = {"iter": np.int64(3), "dataset_meta": {"classes": ("balloon",)}}
            content = {"meta": meta, "state_dict": state, "message_hub": hub, **others}
            torch.save(content, tmp_path / "epoch_12.pth")
        return tmp_path / "epoch_12.pth"

    return store


def test_training_file_with_mmengine_s_log_is_read(training_file):
    content = read_checkpoint(training_file())
    imported = import_content(content, source="a test")
    assert imported.tensors["rpn.head.cls_logits.bias"].tolist() == [1, 2, 3]
    assert imported.class_names == ("__background", "balloon")
    assert isinstance(content["message_hub"]["log_scalars"]["loss"], Inert)


def test_training_file_that_asks_for_more_is_refused(training_file):
    with pytest.raises(ValueError, match="is refused: it asks for"):
        read_checkpoint(training_file(extra=Path("somewhere")))


def test_numpy_alone_is_still_refused(tmp_path):
    torch.save({"state_dict": {"x": np.ones(2)}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="is refused: it asks for"):
        read_checkpoint(tmp_path / "x.pth")
