"""Points in maps and in regions, and which of them a mask is not sure about (PointRend, Kirillov
et al. 2020, arXiv:1912.08193, sections 3.1 and 3.2).

Coordinates of points are (x, y), 0..1 from edge to edge of a map or a region.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.modeling.outputs import pick
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.sampling import random_keys
from maskrcnn_lib.modeling.targets import Targets

# Where the names of random points begin; those of anchors and regions are smaller.
_POINT_IDS = 1 << 61
_BITS = 24  # of a random number that float32 holds
# Directions, no multiples of each other, along which a region's corners shift its points.
_SHIFTS = ((0.6180, 0.4142), (0.7321, 0.2361), (0.3028, 0.8730), (0.5616, 0.1926))


def sample_points(maps: Tensor, owners: Tensor, points: Tensor) -> Tensor:
    """Bilinear interpolation at points of maps that are surrounded by zeros.

    The same as ``grid_sample`` with ``align_corners=False``, but several rows of points may lie in
    one map, any number of rows in each.

    Args:
        maps: (N, C, H, W).
        owners: (K,) int64, which map each row of points lies in.
        points: (K, P, 2) 0..1.

    Returns:
        (K, C, P) in the dtype of the maps.
    """
    height, width = maps.shape[2:]
    place = torch.stack((points[..., 0] * width, points[..., 1] * height), dim=-1)
    place = place - 0.5  # in cells, from the first's middle
    low = place.floor()
    share = place - low
    cells, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = low[..., 0] + dx, low[..., 1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            in_x = share[..., 0] if dx else 1 - share[..., 0]
            in_y = share[..., 1] if dy else 1 - share[..., 1]
            weights.append(torch.where(inside, in_x * in_y, 0.0))
            x, y = x.clamp(0, width - 1).long(), y.clamp(0, height - 1).long()
            cells.append((owners[:, None] * height + y) * width + x)
    values = F.embedding_bag(
        torch.stack(cells, dim=-1).flatten(0, 1),
        maps.permute(0, 2, 3, 1).flatten(0, 2),  # (N * H * W, C)
        per_sample_weights=torch.stack(weights, dim=-1).flatten(0, 1).to(maps.dtype),
        mode="sum",
    )
    return values.view(*points.shape[:2], maps.shape[1]).transpose(1, 2)


def points_in_map(points: Tensor, rois: Tensor, map_size: tuple[int, int], scale: float) -> Tensor:
    """Where points of regions lie in the map of their image.

    Args:
        points: (K, P, 2) 0..1 of the region.
        rois: (K, 5) index of the image, then xyxy in pixels.
        map_size: height and width of the map in cells.
        scale: cells per pixel.

    Returns:
        (K, P, 2) 0..1 of the map.
    """
    height, width = map_size
    corner, sides = rois[:, None, 1:3], rois[:, None, 3:] - rois[:, None, 1:3]
    cells = (corner + points * sides) * scale
    return torch.stack((cells[..., 0] / width, cells[..., 1] / height), dim=-1)


def cell_middles(side: int, device: torch.device) -> Tensor:
    """(side * side, 2) the middles of a grid's cells, row by row."""
    middles = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    return torch.stack((x, y), dim=-1).flatten(0, 1)


def uncertain_cells(logits: Tensor, count: int) -> Tensor:
    """(K, count) the cells of masks (K, M, M) whose probability is nearest to 1/2, row by row."""
    return logits.flatten(1).abs().topk(count, dim=1, largest=False).indices


def random_points(rows: Rows, targets: Targets, count: int) -> Tensor:
    """Uniform points (K, count, 2) in K regions, which follow from the seeds of their images.

    The regions of an image share its points, each with a shift of its own, so that nothing depends
    on which other images a batch holds.
    """
    ids = torch.arange(_POINT_IDS, _POINT_IDS + 2 * count, device=rows.rois.device)
    keys = random_keys(targets.seeds, ids, starts=targets.starts)  # (N, 2 * count)
    table = ((keys >> (63 - _BITS)).float() / 2**_BITS).unflatten(1, (count, 2))
    # No matrix product, which autocast would round to whole numbers.
    shift = (rows.rois[:, 1:, None] * rows.rois.new_tensor(_SHIFTS)).sum(dim=1)  # (K, 2)
    return (table[rows.rois[:, 0].long()] + shift[:, None]).remainder(1.0)


@torch.no_grad()
def training_points(
    logits: Tensor,
    rows: Rows,
    targets: Targets,
    *,
    count: int,
    oversampling: float,
    uncertain_share: float,
) -> Tensor:
    """Points (K, count, 2) to learn from: uncertain ones among random ones, and random ones.

    Args:
        logits: (K, M, M) of each region's class.
        rows: K regions.
        targets: ground truth of the images.
        count: points per region.
        oversampling: random points of which the uncertain ones are chosen, relative to ``count``.
        uncertain_share: share of the points that are chosen, not just drawn.
    """
    candidates = int(count * oversampling)
    chosen = int(count * uncertain_share)
    points = random_points(rows, targets, candidates + count - chosen)
    owners = torch.arange(len(logits), device=logits.device)
    certainty = sample_points(logits[:, None], owners, points[:, :candidates])[:, 0].abs()
    indices = certainty.topk(chosen, dim=1, largest=False).indices
    return torch.cat((pick(points[:, :candidates], indices), points[:, candidates:]), dim=1)
