"""The whole detector: what goes in and out, every kind of config, compilation, low precision."""

import pytest
import torch

from maskrcnn_lib import build_detection_model, get_cfg
from maskrcnn_lib.checkpoint.importers.base import without_stage
from maskrcnn_lib.config.files import list_configs
from maskrcnn_lib.modeling import outputs
from maskrcnn_lib.modeling.roi_heads.box_head import inference as box_inference
from maskrcnn_lib.structures.image_list import to_image_list

MASK = "d2go/mask_rcnn_fbnetv3a_C4"  # small enough to run often
QUICK = ["MODEL.ROI_HEADS.DETECTIONS_PER_IMG", 20]


@torch.no_grad()
def small_model(name=MASK, overrides=(), seed=0):
    """A model with random weights that finds classes 1, 3 and 80 in all sorts of places."""
    torch.manual_seed(seed)
    model = build_detection_model(get_cfg(name, [*QUICK, *overrides])).eval()
    layers = [model.rpn.head.cls_logits, model.rpn.head.bbox_pred]
    if model.roi_heads is not None:
        predictor = model.roi_heads.box.predictor
        predictor.cls_score.bias[[0, 1, 3, 80]] = 3.0
        layers += [predictor.cls_score, predictor.bbox_pred]
    for layer in layers:  # the activations of a random network without norms are huge
        layer.weight.mul_(1e-4)
    return model


def random_images(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, *size, generator=generator) for size in sizes]


@torch.inference_mode()
def test_detections_are_boxlists_in_pixels_of_the_input():
    images = random_images((96, 131), (120, 80))
    results = small_model()(images)
    for image, boxes in zip(images, results, strict=True):
        assert boxes.size == (image.shape[2], image.shape[1])
        assert boxes.mode == "xyxy"
        assert len(boxes) > 0
        scores, labels = boxes.get_field("scores"), boxes.get_field("labels")
        assert boxes.get_field("mask").shape == (len(boxes), 1, 28, 28)
        assert (scores[1:] <= scores[:-1]).all()
        assert labels.dtype == torch.int64
        assert 1 <= int(labels.min()) <= int(labels.max()) <= 80
        assert (boxes.bbox >= 0).all()
        assert (boxes.bbox[:, 2:] <= torch.tensor(boxes.size)).all()


@torch.inference_mode()
def test_a_list_a_batch_and_an_image_list_are_the_same_input():
    model = small_model()
    images = random_images((96, 112), (96, 112))
    expected = model(images)
    for same in (torch.stack(images), to_image_list(images)):
        for ours, theirs in zip(model(same), expected, strict=True):
            # The batch may lie otherwise in memory, and be summed in another order.
            torch.testing.assert_close(ours.bbox, theirs.bbox, atol=1e-3, rtol=1e-4)
    (alone,) = model(images[0])
    assert len(alone) == len(expected[0])


@torch.inference_mode()
def test_faster_rcnn_has_no_masks():
    (boxes,) = small_model("d2go/faster_rcnn_fbnetv3a_C4")(random_images((96, 96)))
    assert boxes.fields() == ["scores", "labels"]


@torch.inference_mode()
def test_a_model_without_heads_returns_proposals():
    model = small_model("torchvision/fasterrcnn_resnet50_fpn", ["MODEL.RPN_ONLY", True])
    (boxes,) = model(random_images((90, 110)))
    assert boxes.fields() == ["objectness"]
    assert len(boxes) > 10


@torch.inference_mode()
def test_no_detections_are_empty_boxlists_with_all_fields():
    model = small_model(overrides=["MODEL.ROI_HEADS.SCORE_THRESH", 1.0])
    for boxes in model(random_images((96, 96), (64, 80))):
        assert len(boxes) == 0
        assert boxes.get_field("mask").shape == (0, 1, 28, 28)
        assert boxes.get_field("scores").shape == boxes.get_field("labels").shape == (0,)


def test_training_without_targets_is_refused_with_the_way_out():
    model = small_model().train()
    with pytest.raises(ValueError, match=r"model\(images, targets\).*model\.eval\(\)"):
        model(random_images((64, 64)))


def test_unknown_architecture_is_refused():
    cfg = get_cfg(MASK)
    cfg.MODEL.META_ARCHITECTURE = "GeneralisedRCNN"
    with pytest.raises(KeyError, match="'GeneralizedRCNN'"):
        build_detection_model(cfg)


@torch.inference_mode()
def test_c4_model_runs():
    overrides = ["MODEL.RPN.POST_NMS_TOP_N_TEST", 10]
    model = small_model("e2e_mask_rcnn_R_50_C4_1x", overrides)
    (boxes,) = model(random_images((75, 97)))
    assert boxes.get_field("mask").shape[1:] == (1, 14, 14)


@torch.inference_mode()
def test_autocast_changes_detections_little_and_leaves_results_in_float32():
    model = small_model()
    images = random_images((128, 128))
    (expected,) = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        (ours,) = model(images)
    for field in (ours.bbox, ours.get_field("scores"), ours.get_field("mask")):
        assert field.dtype == torch.float32
    assert abs(len(ours) - len(expected)) <= 5
    best = ours.get_field("scores")[0], expected.get_field("scores")[0]
    assert float(best[0]) == pytest.approx(float(best[1]), abs=0.02)  # bfloat16 has 8 bits


@pytest.mark.parametrize("name", [MASK, "torchvision/maskrcnn_resnet50_fpn"])
@torch.inference_mode()
def test_backbone_and_rpn_head_compile_without_graph_breaks(name):
    model = small_model(name)

    def head_outputs(x):
        return model.rpn.head(model.backbone(x))

    x = torch.stack(random_images((64, 96)))
    # The eager back end proves that the graph is whole; code generation is torch's business.
    compiled = torch.compile(head_outputs, fullgraph=True, backend="eager")
    for ours, theirs in zip(compiled(x), head_outputs(x), strict=True):
        for level, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(level, expected)


@torch.inference_mode()
def test_nothing_is_kept_between_calls():
    model = small_model()
    first, second = random_images((96, 131)), random_images((64, 64), seed=1)
    (before,) = model(first)
    model(second)
    (after,) = model(first)
    torch.testing.assert_close(after.bbox, before.bbox, atol=0, rtol=0)


@pytest.mark.parametrize("name", list_configs())
def test_every_config_builds(name):
    with torch.device("meta"):  # shapes without memory: the large bodies have 100 million weights
        model = build_detection_model(get_cfg(name))
    names = {without_stage(key) for key in model.state_dict()}
    file_name = name.rpartition("/")[2]
    takes_proposals = name.startswith("detectron/") and file_name.startswith(
        ("fast_rcnn", "mask_rcnn", "keypoint_rcnn")
    )
    assert ("rpn.head.cls_logits.weight" in names) == (not takes_proposals)
    assert ("rpn.head.cls_tower.0.weight" in names) == file_name.startswith(("retinanet", "yolof"))
    has_boxes = "roi_heads.box.predictor.cls_score.weight" in names
    assert has_boxes == (not file_name.startswith(("retinanet", "yolof", "rpn", "rfcn")))
    has_score_maps = "roi_heads.box.feature_extractor.conv_cls.weight" in names
    assert has_score_maps == file_name.startswith("rfcn")
    has_mask = "roi_heads.mask.predictor.mask_fcn_logits.weight" in names
    assert has_mask == any(
        kind in file_name for kind in ("mask_rcnn", "mask-rcnn", "maskrcnn", "ms-rcnn")
    )
    has_stages = "roi_heads.box.stages.2.predictor.cls_score.weight" in model.state_dict()
    assert has_stages == file_name.startswith("cascade")


@torch.inference_mode()
def test_the_fixed_sizes_of_other_devices_give_the_same_detections(monkeypatch):
    model = small_model()
    model.roi_heads.box.predictor.cls_score.weight *= 1000  # or scores are alike, in any order
    images = random_images((96, 131), (64, 80))
    expected = model(images)
    assert all(len(found.get_field("scores").unique()) == len(found) for found in expected)
    # Elsewhere than on the CPU no tensor is cut to what is used.
    monkeypatch.setattr(outputs, "host_may_wait", lambda values: False)
    monkeypatch.setattr(box_inference, "_candidates", lambda eligible: eligible[0].numel())
    detections = model.detect(to_image_list(images))
    assert detections.valid.shape == (2, 20)
    for ours, theirs in zip(model(images), expected, strict=True):
        assert len(ours) == len(theirs) > 0
        torch.testing.assert_close(ours.bbox, theirs.bbox, atol=1e-3, rtol=0)
        assert torch.equal(ours.get_field("labels"), theirs.get_field("labels"))
