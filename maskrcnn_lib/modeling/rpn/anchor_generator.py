"""Anchors: the reference boxes of the RPN (Ren et al., Faster R-CNN, section 3.1.1).

Four tables exist in the wild; a checkpoint works only with its own (``Dialect.anchors``):

* ``legacy`` (Detectron, maskrcnn-benchmark): width and height are rounded at the scale of the
  stride and then multiplied; the centre is the middle of the first cell.
* ``rounded`` (torchvision): corners rounded to whole pixels; the centre is the grid corner, and the
  step is the padded image size divided by the size of the feature map, without remainder.
* ``exact`` (detectron2): no rounding; the centre is the grid corner.
* ``closed`` (mmdetection before version 2): the box's first and last pixel are rounded; the centre
  is the middle of the first cell.

The order inside a cell is always ratio-major, as in maskrcnn-benchmark: anchor
``r * sizes + s`` has ratio r and size s. detectron2 and D2Go store size-major,
``s * ratios + r``: an importer permutes the channels of ``cls_logits`` and, in groups of four, of
``bbox_pred``. Where a level has a single size (any FPN), both orders are the same.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.layers.remembered import remembered

AnchorStyle = Literal["legacy", "rounded", "exact", "closed"]


def cell_anchors(
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
    stride: int,
    style: AnchorStyle,
) -> Tensor:
    """Anchors of the grid cell at the origin.

    Args:
        sizes: side of the square anchor, in pixels.
        aspect_ratios: height / width.
        stride: step of the grid in pixels; the legacy and the closed table depend on it.
        style: which table, see the module's text.

    Returns:
        (ratios * sizes, 4) float32, xyxy in pixels, ratio-major.
    """
    table = {
        "legacy": _legacy_anchor,
        "rounded": _rounded_anchor,
        "exact": _exact_anchor,
        "closed": _closed_anchor,
    }
    if style not in table:
        raise ValueError(f"anchor style {style!r} is unknown; choose one of {sorted(table)}")
    make = table[style]
    rows = [make(size, ratio, stride) for ratio in aspect_ratios for size in sizes]
    return torch.tensor(rows, dtype=torch.float64).to(torch.float32)


def _legacy_anchor(size: float, ratio: float, stride: int) -> tuple[float, float, float, float]:
    width = round(math.sqrt(stride * stride / ratio))
    height = round(width * ratio)
    half_width, half_height = 0.5 * width * size / stride, 0.5 * height * size / stride
    centre = 0.5 * stride
    return centre - half_width, centre - half_height, centre + half_width, centre + half_height


def _rounded_anchor(size: float, ratio: float, stride: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = _exact_anchor(size, ratio, stride)
    return round(x1), round(y1), round(x2), round(y2)


def _exact_anchor(size: float, ratio: float, stride: int) -> tuple[float, float, float, float]:
    half_width = 0.5 * size / math.sqrt(ratio)
    half_height = half_width * ratio
    return -half_width, -half_height, half_width, half_height


def _closed_anchor(size: float, ratio: float, stride: int) -> tuple[float, float, float, float]:
    centre = 0.5 * (stride - 1)
    half_width = 0.5 * (size / math.sqrt(ratio) - 1)
    half_height = 0.5 * (size * math.sqrt(ratio) - 1)
    x1, x2 = round(centre - half_width), round(centre + half_width)
    y1, y2 = round(centre - half_height), round(centre + half_height)
    return x1, y1, x2 + 1, y2 + 1


class AnchorGenerator(nn.Module):
    """Lays the anchors of each pyramid level over its feature map.

    Holds no parameters and no buffers: the tables follow from the arguments, so a checkpoint cannot
    overwrite them and a change of the model's dtype cannot round them.

    Args:
        sizes: for each level, finest first, the anchors' sizes in pixels.
        aspect_ratios: height / width, the same on all levels.
        strides: for each level, the step of its feature map in pixels.
        style: which table of anchors, see the module's text.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[float],
        *,
        strides: Sequence[int],
        style: AnchorStyle = "exact",
    ) -> None:
        super().__init__()
        if len(sizes) != len(strides):
            raise ValueError(
                f"{len(sizes)} levels of anchor sizes, but {len(strides)} strides: give one "
                "of each per level (MODEL.RPN.ANCHOR_SIZES, ANCHOR_STRIDE, USE_FPN)"
            )
        self.sizes = tuple(tuple(level) for level in sizes)
        self.aspect_ratios = tuple(aspect_ratios)
        self.strides = tuple(strides)
        self.style = style
        self.cell_anchors = [
            cell_anchors(level, self.aspect_ratios, stride, style)
            for level, stride in zip(self.sizes, self.strides, strict=True)
        ]
        self._grids: OrderedDict[tuple, list[Tensor]] = OrderedDict()
        self._names: OrderedDict[tuple, Tensor] = OrderedDict()

    def num_anchors_per_location(self) -> list[int]:
        """Number of anchors in one cell, per level."""
        return [len(anchors) for anchors in self.cell_anchors]

    def forward(
        self,
        feature_shapes: Sequence[tuple[int, int]],
        image_shape: tuple[int, int],
        device: torch.device,
    ) -> list[Tensor]:
        """Returns per level (height * width * anchors, 4) float32, xyxy in pixels; y, then x, then
        anchor.

        Args:
            feature_shapes: height and width of each level's feature map, finest first.
            image_shape: height and width of the padded batch.
            device: where the anchors are needed.
        """
        if len(feature_shapes) != len(self.cell_anchors):
            raise ValueError(
                f"{len(feature_shapes)} feature maps, but anchors for {len(self.cell_anchors)} "
                "levels: MODEL.RPN.ANCHOR_SIZES and ANCHOR_STRIDE must fit the backbone"
            )
        steps = [
            self._step(stride, shape, image_shape)
            for stride, shape in zip(self.strides, feature_shapes, strict=True)
        ]
        key = (tuple(map(tuple, feature_shapes)), tuple(steps), device)
        return remembered(
            self._grids,
            key,
            lambda: [
                _lay(anchors.to(device), shape, step)
                for anchors, shape, step in zip(
                    self.cell_anchors, feature_shapes, steps, strict=True
                )
            ],
        )

    def names(self, feature_shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """(A,) int64 names of the anchors of all levels, in the order of ``forward``.

        They are made of level, row, column and number in the cell, so that an anchor keeps its name
        in a batch that is padded to another size. Arguments as for ``forward``; maps have fewer
        than 2^16 rows and columns, cells fewer than 2^8 anchors.
        """
        counts = self.num_anchors_per_location()
        return remembered(
            self._names,
            (tuple(map(tuple, feature_shapes)), device),
            lambda: torch.cat(
                [
                    _name(level, shape, count, device)
                    for level, (shape, count) in enumerate(zip(feature_shapes, counts, strict=True))
                ]
            ),
        )

    def _step(
        self, stride: int, feature_shape: tuple[int, int], image_shape: tuple[int, int]
    ) -> tuple[int, int]:
        """Vertical and horizontal distance of neighbouring cells in pixels."""
        if self.style != "rounded":
            return stride, stride
        return image_shape[0] // feature_shape[0], image_shape[1] // feature_shape[1]

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return (
            f"sizes={self.sizes}, aspect_ratios={self.aspect_ratios}, strides={self.strides}, "
            f"style={self.style!r}"
        )


def _lay(anchors: Tensor, feature_shape: tuple[int, int], step: tuple[int, int]) -> Tensor:
    """Repeats the cell's anchors (A, 4) over a grid; returns (H * W * A, 4)."""
    height, width = feature_shape
    shift_y = torch.arange(height, device=anchors.device, dtype=torch.float32) * step[0]
    shift_x = torch.arange(width, device=anchors.device, dtype=torch.float32) * step[1]
    y, x = torch.meshgrid(shift_y, shift_x, indexing="ij")
    shifts = torch.stack((x, y, x, y), dim=-1)  # (H, W, 4)
    return (shifts[:, :, None] + anchors).reshape(-1, 4)


def _name(
    level: int, feature_shape: tuple[int, int], per_location: int, device: torch.device
) -> Tensor:
    """(H * W * A,) int64, see ``AnchorGenerator.names``."""
    rows = torch.arange(feature_shape[0], device=device)[:, None, None] << 24
    columns = torch.arange(feature_shape[1], device=device)[:, None] << 8
    numbers = torch.arange(per_location, device=device)
    return ((level << 40) + rows + columns + numbers).flatten()


def flatten_anchors(head_output: Tensor, values: int) -> Tensor:
    """What a head says, in the anchors' order: (N, A * values, H, W) -> (N, H * W * A, values).

    A view where the memory is channels_last.
    """
    count = len(head_output)
    return head_output.permute(0, 2, 3, 1).reshape(count, -1, values)


def build_anchor_generator(cfg: CfgNode) -> AnchorGenerator:
    """The anchor generator that ``MODEL.RPN`` and the dialect describe."""
    rpn = cfg.MODEL.RPN
    sizes = [rpn.ANCHOR_SIZES]
    if rpn.USE_FPN:
        sizes = [size if isinstance(size, tuple) else (size,) for size in rpn.ANCHOR_SIZES]
    return AnchorGenerator(
        sizes,
        rpn.ASPECT_RATIOS,
        strides=rpn.ANCHOR_STRIDE,
        style=get_dialect(cfg.MODEL.DIALECT).anchors,
    )
