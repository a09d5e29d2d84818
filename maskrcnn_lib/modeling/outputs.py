"""What the parts of the detector hand to each other: batched tensors of fixed size with a mask.

``N`` is the number of images, ``R`` and ``D`` the number of slots per image. Valid slots come
first and are sorted by score, highest first; the others hold zeros.
"""

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor


class Proposals(NamedTuple):
    """Regions that may hold an object.

    Attributes:
        boxes: (N, R, 4) float32, xyxy in pixels of the resized image.
        scores: (N, R) float32, objectness in 0..1.
        valid: (N, R) bool, which slots are used.
    """

    boxes: Tensor
    scores: Tensor
    valid: Tensor


class Detections(NamedTuple):
    """Objects found.

    Attributes:
        boxes: (N, D, 4) float32, xyxy in pixels of the resized image.
        scores: (N, D) float32 in 0..1.
        labels: (N, D) int64, 1..K; 0 in unused slots.
        valid: (N, D) bool, which slots are used.
        masks: (N, D, M, M) float32 probabilities inside the box, None without a mask head.
        keypoints: (N, D, P, 3) float32 x and y in pixels of the resized image, and the logit there;
            None without a keypoint head.
        mask_scores: (N, D) float32, of the masks where they have scores of their own; else None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    valid: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None
    mask_scores: Tensor | None = None


def host_may_wait(values: Tensor) -> bool:
    """Whether looking at values is free; the host would have to wait for other devices than it."""
    return values.device.type == "cpu"


Slots = TypeVar("Slots", Proposals, Detections)


def pick(values: Tensor, chosen: Tensor) -> Tensor:
    """The chosen ones of each image: values (N, K, ...), chosen (N, R) int64, gives (N, R, ...)."""
    index = chosen.view(*chosen.shape, *[1] * (values.dim() - 2))
    return values.gather(1, index.expand(-1, -1, *values.shape[2:]))


def fill_slots(kind: type[Slots], counts: Tensor, **fields: Tensor) -> Slots:
    """Slots of which the first are used; those that no image uses are dropped.

    Args:
        kind: what to make.
        counts: (N,) used slots of each image.
        **fields: of ``kind`` but ``valid``, (N, R, ...) each; whatever unused slots hold.
    """
    slots = torch.arange(fields["scores"].shape[1], device=counts.device)
    valid = slots < counts[:, None]
    cleared = {
        name: field.masked_fill(~valid.view(*valid.shape, *[1] * (field.dim() - 2)), 0)
        for name, field in fields.items()
    }
    return _drop_unused_slots(kind(**cleared, valid=valid))


def _drop_unused_slots(slots: Slots) -> Slots:
    """Cuts the slots to the largest number that an image of the batch uses.

    On the CPU this saves the heads' work on empty slots. On other devices it returns the slots as
    they are: to know the number, the host would have to wait for the device.
    """
    if not host_may_wait(slots.valid):
        return slots
    used = slots.valid.sum(dim=1).max().item() if len(slots.valid) else 0
    return type(slots)(*(None if field is None else field[:, :used] for field in slots))
