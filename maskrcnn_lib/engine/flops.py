"""How much a model computes, and where its parameters are."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.structures.image_list import to_image_list

_PART_NAMES = 2  # of a module's name that say to which part it belongs: backbone.body
ELSEWHERE = "(outside of layers)"


@dataclass(frozen=True)
class ModelCost:
    """What one image costs.

    Attributes:
        flops: floating point operations per part; a multiplication and an addition are two.
        parameters: numbers per part.
        found: regions or detections that were found, and that the last heads looked at.
    """

    flops: dict[str, int]
    parameters: dict[str, int]
    found: int


@torch.inference_mode()
def model_cost(cfg: Any, height: int, width: int) -> ModelCost:
    """Counts the operations of convolutions and matrix products while a model sees one image.

    The model has random weights and sees noise; its score threshold is 0, so that it finds as many
    objects as it may, for each of which mask and keypoint heads work. Operators of this library,
    such as RoIAlign, NMS and deformable convolutions, are not counted.

    Args:
        cfg: resolved configuration.
        height, width: of the image at the network's scale, in pixels; padded as the config says.

    Raises:
        ValueError: the image has no pixels.
    """
    from torch.utils.flop_counter import FlopCounterMode

    if height < 1 or width < 1:
        raise ValueError(f"an image of {height} x {width} pixels cannot be looked at")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH = 0.0
    generator = torch.Generator().manual_seed(0)
    model = build_detection_model(cfg).eval()
    image = torch.rand(3, height, width, generator=generator)
    counter = FlopCounterMode(display=False)
    parts = _PartCounter(model, counter.get_total_flops)
    with counter:
        found = model.detect(to_image_list([image], cfg.DATALOADER.SIZE_DIVISIBILITY))
    parts.settle()
    parameters: Counter[str] = Counter()
    for name, values in model.named_parameters():
        parameters[part_of(name)] += values.numel()
    flops = {part: count for part, count in parts.flops.items() if count}
    return ModelCost(flops, dict(parameters), int(found.valid.sum()))


def part_of(name: str) -> str:
    """The part of a detector that a module or parameter belongs to."""
    return ".".join(name.split(".")[:_PART_NAMES])


class _PartCounter:
    """Assigns what is counted to the innermost module that is at work."""

    def __init__(self, model: nn.Module, total: Callable[[], int]) -> None:
        self.flops: Counter[str] = Counter()
        self._total, self._before = total, 0
        self._working = [ELSEWHERE]
        for name, module in model.named_modules():
            if name:
                module.register_forward_pre_hook(partial(self._enter, part_of(name)))
                module.register_forward_hook(self._leave)

    def settle(self) -> None:
        """Gives the innermost module what was counted since the last call."""
        total = self._total()
        self.flops[self._working[-1]] += total - self._before
        self._before = total

    def _enter(self, part: str, *_: Any) -> None:
        self.settle()
        self._working.append(part)

    def _leave(self, *_: Any) -> None:
        self.settle()
        self._working.pop()
