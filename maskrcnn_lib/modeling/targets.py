"""The ground truth of a batch as padded tensors."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.modeling.packed_masks import PackedMasks, pack_masks
from maskrcnn_lib.modeling.sampling import hashed_seeds
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask
from maskrcnn_lib.utils.transfer import send

Seeds = Tensor | Sequence[int]


class Targets(NamedTuple):
    """Objects of N images in G slots each; unused slots hold zeros.

    A box of zeros overlaps nothing, so that unused slots need no care in matching.

    Attributes:
        boxes: (N, G, 4) float32, xyxy in pixels of the resized image.
        labels: (N, G) int64, classes from 1.
        valid: (N, G) bool, which slots are used; they come first.
        seeds: (N,) int64, of the random choices made for each image.
        masks: per image the masks of its objects; None where they are not needed.
        packed_masks: the same on the device of the boxes.
        keypoints: (N, G, P, 3) float32, x and y in pixels and visibility, as ``Keypoints`` has
            them; None where they are not needed.
        starts: (N,) int64, ``sampling.hashed_seeds`` of the seeds; None where they are not known.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    seeds: Tensor
    masks: list[SegmentationMask] | None = None
    packed_masks: PackedMasks | None = None
    keypoints: Tensor | None = None
    starts: Tensor | None = None


def batch_targets(
    targets: Sequence[BoxList],
    image_sizes: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    num_classes: int | None,
    with_masks: bool,
    num_keypoints: int = 0,
    seeds: Seeds | None = None,
) -> Targets:
    """Checks the ground truth of a batch and pads it to the fullest image.

    Args:
        targets: per image its objects, with field ``labels`` and, where asked for, ``masks`` and
            ``keypoints``.
        image_sizes: per image, height and width without padding, in pixels.
        device: where the tensors are needed.
        num_classes: classes with background, labels are 1 .. num_classes - 1; None for any.
        with_masks: whether masks are needed.
        num_keypoints: keypoints of each object that are needed; 0 for none.
        seeds: one integer per image; None draws them from torch's global generator.

    Raises:
        ValueError: naming the image: numbers that do not fit, an image of another size, a box that
            is not finite or has no area, a label out of range. Values are only looked at where they
            are on the CPU.
        KeyError: a field is missing.
    """
    if len(targets) != len(image_sizes):
        raise ValueError(f"{len(targets)} targets for {len(image_sizes)} images")
    targets = [target.convert("xyxy") for target in targets]
    needed = [*(["masks"] if with_masks else []), *(["keypoints"] if num_keypoints else [])]
    for index, (target, image_size) in enumerate(zip(targets, image_sizes, strict=True)):
        _check_target(index, target, image_size, needed=needed)
    counts = [len(target) for target in targets]
    fullest = max(counts, default=0)
    # Joined where the targets are, so that they move to another device in one piece.
    home = targets[0].bbox.device if targets else device
    parts = _joined(targets, home, num_keypoints)
    _check_values(*parts[:2], counts, num_classes)
    used = torch.arange(fullest) < torch.tensor(counts, dtype=torch.int64)[:, None]  # (N, G)
    at_home = send(used, home)
    boxes, labels, *keypoints = (send(_into_slots(part, at_home), device) for part in parts)
    valid = send(used, device)
    seeds = _as_seeds(seeds, len(targets))
    starts = hashed_seeds(seeds)
    result = Targets(
        boxes,
        labels,
        valid,
        send(seeds, device),
        keypoints=keypoints[0] if keypoints else None,
        starts=None if starts is None else send(starts, device),
    )
    if not with_masks:
        return result
    masks = [target.get_field("masks") for target in targets]
    packed = pack_masks(masks, fullest).to(device)
    return result._replace(masks=masks, packed_masks=packed)


def _joined(targets: Sequence[BoxList], home: torch.device, num_keypoints: int) -> list[Tensor]:
    """Boxes, labels and, where asked for, keypoints of all images one behind the other."""
    if targets:
        fields = [t.bbox for t in targets], [t.get_field("labels") for t in targets]
        parts = [torch.cat(field) for field in fields]
    else:
        no_labels = torch.zeros(0, dtype=torch.int64, device=home)
        parts = [torch.zeros((0, 4), device=home), no_labels]
    if num_keypoints:
        points = [_points(i, t, num_keypoints) for i, t in enumerate(targets) if len(t)]
        parts.append(torch.cat([torch.zeros((0, num_keypoints, 3), device=home), *points]))
    return parts


def _into_slots(rows: Tensor, used: Tensor) -> Tensor:
    """(N, G, ...) with the rows of all images, one behind the other, in the used slots (N, G)."""
    slots = rows.new_zeros((*used.shape, *rows.shape[1:]))
    return slots.masked_scatter(used.reshape(*used.shape, *(1,) * (rows.dim() - 1)), rows)


def _points(index: int, target: BoxList, num_keypoints: int) -> Tensor:
    """(n, P, 3) keypoints of a target's objects."""
    points = target.get_field("keypoints").keypoints
    if points.shape[1] != num_keypoints:
        raise ValueError(
            f"target {index} has {points.shape[1]} keypoints per object, but the model "
            f"{num_keypoints} (MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES)"
        )
    return points


def _as_seeds(seeds: Seeds | None, count: int) -> Tensor:
    if seeds is None:
        return torch.randint(torch.iinfo(torch.int64).max, (count,))
    seeds = torch.as_tensor(seeds, dtype=torch.int64)
    if seeds.shape != (count,):
        raise ValueError(f"seeds must be {count} integers, one per image; got {tuple(seeds.shape)}")
    return seeds


def _check_target(
    index: int,
    target: BoxList,
    image_size: tuple[int, int],
    *,
    needed: Sequence[str],
) -> None:
    height, width = image_size
    if tuple(target.size) != (width, height):
        raise ValueError(
            f"target {index} is for an image of {target.size[0]} x {target.size[1]} (width x "
            f"height), but image {index} has {width} x {height}; resize both together"
        )
    needed = ("labels", *needed)
    for field in needed:
        if not target.has_field(field):
            raise KeyError(
                f"target {index} has no field {field!r}, only {sorted(target.fields())}; training "
                f"this model needs {' and '.join(needed)}"
            )
        if len(target.get_field(field)) != len(target):
            raise ValueError(
                f"target {index}: {len(target.get_field(field))} {field} for {len(target)} boxes"
            )


def _check_values(
    boxes: Tensor, labels: Tensor, counts: Sequence[int], num_classes: int | None
) -> None:
    """Looks at boxes and labels of all images, one behind the other, where they are on the CPU.

    With numpy, as its calls on so little data take a fraction of the time of torch's.
    """
    if boxes.device.type == "cpu":
        corners = boxes.detach().numpy()
        sides = corners[:, 2:] - corners[:, :2]
        bad = ~(np.isfinite(corners).all(axis=1) & (sides > 0).all(axis=1))
        if bad.any():
            row = int(bad.argmax())
            index, which = _place(row, counts)
            raise ValueError(
                f"target {index}: box {which} is {boxes[row].tolist()} (x1, y1, x2, y2), which "
                "is not finite or has no area; remove it, for instance with clip_to_image()"
            )
    if labels.device.type == "cpu" and num_classes is not None:
        values = labels.numpy()
        bad = (values < 1) | (values >= num_classes)
        if bad.any():
            row = int(bad.argmax())
            index, which = _place(row, counts)
            raise ValueError(
                f"target {index}: label {int(labels[row])} of box {which} is not in 1.."
                f"{num_classes - 1}; 0 is the background (the model's NUM_CLASSES, {num_classes}, "
                "counts it)"
            )


def _place(row: int, counts: Sequence[int]) -> tuple[int, int]:
    """Image and number in it of a row among those of all images."""
    ends = list(accumulate(counts))
    image = bisect_right(ends, row)
    return image, row - (ends[image] - counts[image])
