"""The architectures of FBNet and ChamNet detectors, as tables, and their form in a config.

Method: Wu et al. 2019, arXiv:1812.03443 (FBNet), and Dai et al. 2019, arXiv:1812.08934 (ChamNet).
The tables are maskrcnn-benchmark's: a row of a stage is kernel, expansion, output channels, number
of blocks and stride of the first; the stride -2 doubles the map instead.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskrcnn_lib.modeling.backbone.inverted_residual import Block, divisible_width

Row = tuple[int, float, int, int, int]

_OPERATION = re.compile(r"ir_k([357])(?:_e(\d+))?")
# A head whose own blocks are not named takes those of the first of these that are.
_STAND_INS = {"bbox": ("head",), "mask": ("head",), "kpts": ("head", "mask")}


@dataclass(frozen=True)
class FBNetArchitecture:
    """Blocks of a detector by stages, and which part each stage belongs to.

    Attributes:
        stages: rows of each stage.
        parts: numbers of the stages of "backbone", "rpn", "bbox", "mask" and "kpts", of which an
            architecture may lack some.
        first: channels and stride of the 3x3 convolution in front of the backbone.
        last: channels of a 1x1 convolution behind each head; 0 for none.
    """

    stages: tuple[tuple[Block, ...], ...]
    parts: Mapping[str, Sequence[int]]
    first: tuple[int, int] = (32, 2)
    last: int = 0

    def blocks(self, part: str) -> dict[str, Block]:
        """The blocks of a part by name: ``xif4_0`` is the first of stage 4.

        Raises:
            ValueError: the architecture has no such part.
        """
        names = (part, *_STAND_INS.get(part, ()))
        found = next((name for name in names if name in self.parts), None)
        if found is None:
            raise ValueError(
                f"the architecture of MODEL.FBNET has no blocks for {part!r}, only for "
                f"{sorted(self.parts)}; choose another ARCH, or another head"
            )
        return {
            f"xif{stage}_{index}": block
            for stage in self.parts[found]
            for index, block in enumerate(self.stages[stage])
        }

    def scaled(self, factor: float, divisor: int) -> "FBNetArchitecture":
        """The same with all widths times ``factor``, rounded to multiples of ``divisor``."""
        stages = tuple(
            tuple(
                replace(block, channels=divisible_width(block.channels * factor, divisor))
                for block in stage
            )
            for stage in self.stages
        )
        channels, stride = self.first
        first = divisible_width(channels * factor, divisor), stride
        # maskrcnn-benchmark widens the last convolution, but does not narrow it.
        return replace(self, stages=stages, first=first, last=int(self.last * max(factor, 1)))


def _stages(*stages: Sequence[Row]) -> tuple[tuple[Block, ...], ...]:
    return tuple(tuple(block for row in stage for block in _blocks(*row)) for stage in stages)


def _blocks(
    kernel: int, expansion: float, channels: int, count: int, stride: int
) -> tuple[Block, ...]:
    first = Block(kernel, expansion, channels, stride=max(stride, 1), upsample=stride == -2)
    return (first, *[Block(kernel, expansion, channels)] * (count - 1))


_BACKBONE = (0, 1, 2, 3)
_MOBILENET_V2 = (
    ((3, 1, 16, 1, 1),),
    ((3, 6, 24, 2, 2),),
    ((3, 6, 32, 3, 2),),
    ((3, 6, 64, 4, 2), (3, 6, 96, 3, 1)),
)

# By the name that MODEL.FBNET.ARCH gives.
FBNET_ARCHITECTURES: dict[str, FBNetArchitecture] = {
    "default": FBNetArchitecture(
        _stages(
            *_MOBILENET_V2,
            ((3, 4, 160, 1, 2), (3, 6, 160, 2, 1), (3, 6, 240, 1, 1)),
            ((3, 6, 96, 3, 1),),
            ((3, 4, 160, 1, 1), (3, 6, 160, 3, 1), (3, 3, 80, 1, -2)),
        ),
        {"backbone": _BACKBONE, "bbox": (4,), "rpn": (5,), "mask": (6,)},
    ),
    "xirb16d_dsmask": FBNetArchitecture(
        _stages(
            ((3, 1, 16, 1, 1),),
            ((3, 6, 32, 2, 2),),
            ((3, 6, 48, 3, 2),),
            ((3, 6, 96, 4, 2), (3, 6, 128, 3, 1)),
            ((3, 4, 128, 1, 2), (3, 6, 128, 2, 1), (3, 6, 160, 1, 1)),
            ((3, 4, 128, 1, 2), (3, 6, 128, 2, 1), (3, 6, 128, 1, -2), (3, 3, 64, 1, -2)),
            ((3, 6, 128, 3, 1),),
        ),
        {"backbone": _BACKBONE, "bbox": (4,), "mask": (5,), "rpn": (6,)},
        first=(16, 2),
    ),
    "mobilenet_v2": FBNetArchitecture(
        _stages(*_MOBILENET_V2, ((3, 6, 160, 3, 1), (3, 6, 320, 1, 1))),
        {"backbone": _BACKBONE, "bbox": (4,)},
    ),
    "cham_v1a": FBNetArchitecture(
        _stages(
            ((3, 1, 24, 1, 1),),
            ((7, 4, 48, 2, 2),),
            ((3, 7, 64, 5, 2),),
            ((5, 12, 56, 7, 2), (3, 8, 88, 5, 1)),
            ((3, 7, 152, 4, 2), (3, 10, 104, 1, 1)),
            ((3, 8, 88, 3, 1),),
        ),
        {"backbone": _BACKBONE, "bbox": (4,), "rpn": (5,)},
    ),
    "cham_v2": FBNetArchitecture(
        _stages(
            ((3, 1, 24, 1, 1),),
            ((5, 8, 32, 4, 2),),
            ((7, 5, 48, 6, 2),),
            ((5, 9, 56, 3, 2), (3, 6, 56, 6, 1)),
            ((3, 2, 160, 6, 2), (3, 6, 112, 1, 1)),
            ((3, 6, 56, 1, 1),),
        ),
        {"backbone": _BACKBONE, "bbox": (4,), "rpn": (5,)},
    ),
}


def parse_architecture(definition: str) -> FBNetArchitecture:
    """Reads an architecture in maskrcnn-benchmark's form.

    Args:
        definition: JSON of an object with ``block_op_type``, per stage the operation of each block
            ("ir_k3", "ir_k5", "ir_k7", or with a fixed expansion "ir_k3_e6"), and ``block_cfg``:
            ``stages``, per stage rows [expansion, channels, number of blocks, stride]; ``first``,
            channels and stride of the stem; ``last``, whose first number is a head's last width;
            and the numbers of the stages of ``backbone``, ``rpn``, ``bbox``, ``mask`` and ``kpts``.

    Raises:
        ValueError: it is not of this form, or holds what this library does not build.
    """
    try:
        content = json.loads(definition)
        settings, operations = dict(content["block_cfg"]), content["block_op_type"]
        rows = settings.pop("stages")
        stages = _stages(*(_rows(*pair) for pair in zip(rows, operations, strict=True)))
        channels, stride = settings.pop("first")
        last = settings.pop("last", [0])[0]
        settings.setdefault("backbone", list(range(len(stages) - 1)))
        parts = {name: tuple(numbers) for name, numbers in settings.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"MODEL.FBNET.ARCH_DEF is no architecture: {error!r}") from error
    return FBNetArchitecture(stages, parts, (channels, stride), last)


def _rows(stage: Sequence[Sequence[Any]], operations: Sequence[str]) -> list[Row]:
    """Rows with a kernel of one stage, whose blocks have an operation each."""
    blocks = [
        (expansion, channels, stride if index == 0 else 1)
        for expansion, channels, count, stride in stage
        for index in range(count)
    ]
    return [_row(operation, *block) for block, operation in zip(blocks, operations, strict=True)]


def _row(operation: str, expansion: float, channels: int, stride: int) -> Row:
    match = _OPERATION.fullmatch(operation)
    if match is None:
        raise ValueError(f"no operation {operation!r} here; there are ir_k3, ir_k5 and ir_k7")
    if stride not in (-2, 1, 2):
        raise ValueError(f"no stride {stride} here; there are 1, 2 and -2")
    return int(match[1]), float(match[2]) if match[2] else expansion, channels, 1, stride
