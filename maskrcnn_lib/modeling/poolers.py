"""Cuts regions out of feature maps: one RoIAlign over all levels of a pyramid.

Method: He et al. 2017, arXiv:1703.06870; the choice of the level is equation 1 of Lin et al. 2016,
arXiv:1612.03144.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.layers.multilevel_roi_align import multilevel_roi_align, pyramid_levels
from maskrcnn_lib.structures.bounding_box import BoxList


class LevelMapper:
    """Tells which pyramid level each box is pooled from, by its size.

    The pooler's operator chooses by the same rule; this is for code that asks by itself.

    Args:
        k_min: finest level, of scale 2 ** -k_min.
        k_max: coarsest level.
        canonical_scale: size in pixels of the boxes that go to ``canonical_level``.
        canonical_level: see above.
    """

    def __init__(
        self, k_min: int, k_max: int, canonical_scale: float = 224, canonical_level: int = 4
    ) -> None:
        self.scales = [2.0**-level for level in range(k_min, k_max + 1)]
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level

    def __call__(self, boxlists: Sequence[BoxList]) -> Tensor:
        """Returns (N,) int64: for the boxes of all images the number of the level, from 0."""
        rois = boxlists_to_rois(boxlists)
        return pyramid_levels(rois, self.scales, self.canonical_scale, self.canonical_level)


class Pooler(nn.Module):
    """RoIAlign on the pyramid level that fits each region's size.

    Args:
        output_size: height and width of a pooled region, in bins.
        scales: size of each feature map relative to the image, finest first (1/4, 1/8, ...).
        sampling_ratio: samples per bin along each axis; 0 takes as many as feature pixels.
        aligned: whether half a pixel is subtracted from the scaled corners.
        box_end_offset: added to x2 and y2 before sampling (not before choosing the level).
    """

    def __init__(
        self,
        output_size: tuple[int, int],
        scales: Sequence[float],
        sampling_ratio: int,
        *,
        aligned: bool = False,
        box_end_offset: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.scales = tuple(scales)
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.box_end_offset = box_end_offset

    def forward(self, features: Sequence[Tensor], rois: Tensor | Sequence[BoxList]) -> Tensor:
        """Returns (K, C, height, width), the regions in the order of ``rois``.

        Args:
            features: maps (N, C, H, W), finest first. Maps beyond the number of scales (the
                coarsest level of an FPN serves the RPN alone) are not used.
            rois: (K, 5) float32: index of the image, then xyxy in pixels of the resized image; or
                one BoxList per image.
        """
        if not isinstance(rois, Tensor):
            rois = boxlists_to_rois(rois)
        return multilevel_roi_align(
            features[: len(self.scales)],
            rois,
            self.scales,
            self.output_size,
            self.sampling_ratio,
            self.aligned,
            box_end_offset=self.box_end_offset,
        )

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return (
            f"output_size={self.output_size}, scales={self.scales}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}, "
            f"box_end_offset={self.box_end_offset}"
        )


def build_pooler(cfg: CfgNode, head_name: str) -> Pooler:
    """The pooler of the head whose settings stand under ``MODEL.<head_name>``."""
    head = cfg.MODEL[head_name]
    dialect = get_dialect(cfg.MODEL.DIALECT)
    return Pooler(
        (head.POOLER_RESOLUTION, head.POOLER_RESOLUTION),
        head.POOLER_SCALES,
        head.POOLER_SAMPLING_RATIO,
        aligned=dialect.roi_align_aligned,
        box_end_offset=dialect.box_end_offset,
    )


def make_pooler(cfg: CfgNode, head_name: str) -> Pooler:
    """:func:`build_pooler` under maskrcnn-benchmark's name."""
    return build_pooler(cfg, head_name)


def boxlists_to_rois(boxlists: Sequence[BoxList]) -> Tensor:
    """(K, 5) float32 regions of all images in order, each led by the index of its image."""
    boxes = [boxlist.convert("xyxy").bbox.float() for boxlist in boxlists]
    rois = [torch.cat([b.new_full((len(b), 1), index), b], dim=1) for index, b in enumerate(boxes)]
    return torch.cat(rois)


def boxes_to_rois(boxes: Tensor) -> Tensor:
    """(N, R, 4) boxes -> (N * R, 5) float32 regions, each led by the index of its image."""
    count, per_image = boxes.shape[:2]
    image_index = torch.arange(count, device=boxes.device, dtype=torch.float32)
    image_index = image_index[:, None, None].expand(count, per_image, 1)
    return torch.cat((image_index, boxes.float()), dim=-1).flatten(0, 1)
