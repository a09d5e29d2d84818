"""This library's operators in those of torch and torchvision, for graphs that run without it.

They are for one image at a time and take the number of boxes as it comes; nothing but the order of
sums differs.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.export import ExportedProgram

from maskrcnn_lib.export.dense_decompositions import deform_conv2d, embedding_bag, heat_map_peaks
from maskrcnn_lib.layers.multilevel_roi_align import pyramid_levels
from maskrcnn_lib.modeling.box_coder import extend_boxes

OURS = "maskrcnn::"  # namespace of the operators


def decompose(program: ExportedProgram, *, keep: Sequence[str] = ()) -> ExportedProgram:
    """Replaces the operators of this library in a graph.

    Args:
        program: the recorded graph.
        keep: operators that stay, of those in ``REPLACEMENTS``.

    Raises:
        ValueError: an operator is in the graph that nothing can stand for.
    """
    import torchvision  # noqa: F401  (registers its operators)

    table = {
        operator_named(name): replacement
        for name, replacement in REPLACEMENTS.items()
        if name not in keep
    }
    # torch's own takes the windows that the size of the example image has.
    for pool in (torch.ops.aten.adaptive_avg_pool2d, torch.ops.aten._adaptive_avg_pool2d):
        table[pool.default] = adaptive_avg_pool2d
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`create_unbacked_symint`")  # torchvision's
        program = program.run_decompositions(table)
    # How values lie in memory was guessed while sizes were not known.
    for node in _calls(program):
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    left = operators_of(program) - set(keep)
    if left:
        raise ValueError(
            f"this model cannot be exported: it needs {', '.join(sorted(left))}, which nothing "
            "outside of maskrcnn_lib stands for"
        )
    return program


def operator_named(name: str) -> torch._ops.OpOverload:
    """The operator of a name such as ``"maskrcnn::nms"`` or ``"aten::add.Tensor"``."""
    namespace, _, operator = name.partition("::")
    operator, _, overload = operator.partition(".")
    return getattr(getattr(getattr(torch.ops, namespace), operator), overload or "default")


def operators_of(program: ExportedProgram) -> set[str]:
    """Names of this library's operators in a graph."""
    return {name for node in _calls(program) if (name := node.target.name()).startswith(OURS)}


def _calls(program: ExportedProgram) -> list[torch.fx.Node]:
    return [
        node
        for module in program.graph_module.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
    ]


def multilevel_roi_align(
    features: list[Tensor],
    rois: Tensor,
    scales: list[float],
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_size: float,
    canonical_level: int,
    box_end_offset: float,
) -> Tensor:
    """One RoIAlign for the regions of each level, then a sort back into the order of the regions.

    Arguments as for ``layers.multilevel_roi_align``.
    """
    pool = torch.ops.torchvision.roi_align
    size = height, width, sampling_ratio, aligned
    boxes = extend_boxes(rois, box_end_offset)
    if len(features) == 1:
        return pool(features[0], boxes, scales[0], *size)
    levels = pyramid_levels(rois, scales, canonical_size, canonical_level)
    at_level = levels[:, None] == torch.arange(len(features))  # (K, L)
    pooled = [
        pool(level, boxes[chosen.nonzero()[:, 0]], scale, *size)
        for level, scale, chosen in zip(features, scales, at_level.unbind(1), strict=True)
    ]
    counts = at_level.sum(dim=0)
    places = at_level.cumsum(dim=0) - 1 + counts.cumsum(dim=0) - counts  # (K, L)
    return torch.cat(pooled)[places.where(at_level, 0).sum(dim=1)]


def batched_nms_fixed(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    max_output: int,
    max_per_group: int,
) -> tuple[Tensor, Tensor]:
    """One NMS for all groups, each moved to a place of its own.

    In float64, whose 53 bits hold the coordinates of a float32 and the number of its group.
    Arguments as for ``layers.batched_nms_fixed``, of a single row.
    """
    usable = (scores[0] > -torch.inf) & boxes[0].isfinite().all(dim=1)
    places = usable.nonzero()[:, 0]
    candidates, scores, groups = boxes[0][places].double(), scores[0][places], groups[0][places]
    # torchvision promises graphs that at least two boxes stay: two empty ones, in groups of their
    # own, always do and come last.
    candidates = torch.cat((candidates, candidates.new_zeros(2, 4)))
    scores = torch.cat((scores, scores.new_full((2,), -torch.inf)))
    groups = torch.cat((groups, -1 - torch.arange(2)))
    span = 1 + 2 * candidates.abs().amax()
    moved = candidates + (groups * span)[:, None]
    kept = torch.ops.torchvision.nms(moved, scores.double(), iou_threshold)[:-2]
    if max_per_group:
        kept = kept[(_rank_in_group(groups[kept]) < max_per_group).nonzero()[:, 0]]
    padding = groups.new_zeros(max_output)
    indices = torch.cat((places[kept], padding))[:max_output]
    return indices[None], torch.ones_like(kept)[:max_output].sum()[None]


def _rank_in_group(groups: Tensor) -> Tensor:
    """(K,) int64: how many entries of the same group stand before each one."""
    ordered, order = groups.sort(stable=True)
    ranks = torch.ones_like(order).cumsum(dim=0) - 1 - torch.searchsorted(ordered, ordered)
    return torch.zeros_like(order).scatter(0, order, ranks)


def adaptive_avg_pool2d(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """As torch's, for sizes that are not known: one matrix of weights for each axis."""
    if tuple(output_size) == (1, 1):
        return x.mean(dim=(2, 3), keepdim=True)
    rows, columns = (
        _window_weights(x.shape[axis], size, x)
        for axis, size in zip((2, 3), output_size, strict=True)
    )
    return rows @ x @ columns.T


def _window_weights(size: int, windows: int, like: Tensor) -> Tensor:
    """(windows, size): each row averages one of the windows that an axis is cut into."""
    index = torch.arange(windows)
    starts = torch.div(index * size, windows, rounding_mode="floor")
    ends = torch.div((index + 1) * size + windows - 1, windows, rounding_mode="floor")
    place = torch.arange(size)
    inside = (place >= starts[:, None]) & (place < ends[:, None])
    return inside.to(like.dtype) / (ends - starts)[:, None].to(like.dtype)


REPLACEMENTS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "maskrcnn::multilevel_roi_align": multilevel_roi_align,
    "maskrcnn::batched_nms_fixed": batched_nms_fixed,
    "maskrcnn::heat_map_peaks": heat_map_peaks,
    "torchvision::deform_conv2d": deform_conv2d,
    "aten::embedding_bag.padding_idx": embedding_bag,
}
"""What stands for an operator, by its name."""
