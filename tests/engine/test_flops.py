"""What is counted as operations, and of which part."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine import flops
from maskrcnn_lib.engine.flops import ELSEWHERE, model_cost
from maskrcnn_lib.modeling.outputs import Detections


class _Head(nn.Module):
    """Works through a method, as the box head does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def work(self, x):
        return self.layer(x)


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({"body": nn.Conv2d(3, 4, 3, padding=1, bias=False)})
        self.backbone["fpn"] = nn.Conv2d(4, 6, 1, stride=2)
        self.roi_heads = nn.ModuleDict({"box": _Head()})

    def detect(self, images):
        x = self.backbone["fpn"](self.backbone["body"](images.tensors))
        x = self.roi_heads["box"].work(x.flatten(2).transpose(1, 2))  # (1, cells, 5)
        x @ x.transpose(1, 2)
        valid = torch.tensor([[True, True, False]])
        return Detections(boxes=None, scores=None, labels=None, valid=valid)


def test_operations_are_those_of_the_part_that_works(monkeypatch):
    monkeypatch.setattr(flops, "build_detection_model", lambda cfg: _Model())
    cost = model_cost(get_cfg(None, ["DATALOADER.SIZE_DIVISIBILITY", 0]), 8, 10)
    cells = 4 * 5
    assert cost.flops == {
        "backbone.body": 2 * 3 * 4 * 9 * 8 * 10,
        "backbone.fpn": 2 * 4 * 6 * cells,
        "roi_heads.box": 2 * 6 * 5 * cells,
        ELSEWHERE: 2 * cells * cells * 5,
    }
    weights = {"backbone.body": 108, "backbone.fpn": 24 + 6, "roi_heads.box": 30 + 5}
    assert cost.parameters == weights and cost.found == 2


def test_an_image_needs_pixels():
    with pytest.raises(ValueError, match="0 x 10"):
        model_cost(get_cfg(None), 0, 10)


@pytest.mark.slow
def test_mask_rcnn_costs_what_its_layers_make():
    # Figures from the layers' sizes, by hand, in GFLOP at 800 x 1344; torchvision states 44401393
    # parameters. Masks of the 90 other classes, 3.6 GFLOP there, are not made here.
    cost = model_cost(get_cfg("torchvision/maskrcnn_resnet50_fpn"), 800, 1344)
    expected = {"backbone.body": 175.2, "backbone.fpn": 121.8, "rpn.head": 106.3}
    expected |= {"roi_heads.box": 28.7, "roi_heads.mask": 106.4 - 3.6}
    assert {p: f / 1e9 for p, f in cost.flops.items()} == pytest.approx(expected, abs=0.06)
    assert sum(cost.parameters.values()) == 44_401_393 and cost.found == 100
