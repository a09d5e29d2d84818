"""Norms by the names that the config gives them."""

from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.modeling.make_layers import NormFactory, group_norm

if TYPE_CHECKING:
    from yacs.config import CfgNode


def group_norm_factory(cfg: "CfgNode") -> NormFactory:
    """Returns a function from channels to the group norm that ``MODEL.GROUP_NORM`` describes."""
    keys = cfg.MODEL.GROUP_NORM
    return partial(
        group_norm, num_groups=keys.NUM_GROUPS, dim_per_group=keys.DIM_PER_GP, eps=keys.EPSILON
    )


def named_norm_factory(cfg: "CfgNode", key: str = "MODEL.NORM") -> NormFactory | None:
    """Returns a function from channels to the norm that a key of ``cfg`` names; None for "".

    ``frozen`` has constants (the statistics of the weights that are loaded), ``batch`` learns
    statistics over the images of a rank, ``sync`` over those of all ranks, ``group`` has none.

    Raises:
        ValueError: another name.
    """
    factories: dict[str, NormFactory | None] = {
        "": None,
        "frozen": FrozenBatchNorm2d,
        "batch": nn.BatchNorm2d,
        "sync": nn.SyncBatchNorm,
        "group": group_norm_factory(cfg),
    }
    name = cfg.flat()[key]
    if name not in factories:
        raise ValueError(f"{key} {name!r} is unknown; choose one of {sorted(factories)}")
    return factories[name]


def part_norm_factory(cfg: "CfgNode", part: str) -> NormFactory | None:
    """The same for a part of the model, such as "FPN", which may also say ``USE_GN``.

    Raises:
        ValueError: another name, or two different norms for one part.
    """
    key = f"MODEL.{part}.NORM"
    if not cfg.MODEL[part].USE_GN:
        return named_norm_factory(cfg, key)
    if cfg.MODEL[part].NORM not in ("", "group"):
        raise ValueError(f"MODEL.{part}.USE_GN asks for group norm, but {key} does not")
    return group_norm_factory(cfg)
