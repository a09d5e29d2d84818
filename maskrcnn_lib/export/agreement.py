"""Whether an exported file finds what the model finds.

Both compute in float32, but sum up in other orders. Where two detections score the same but for
that, either may come first, so that detections are paired before they are compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.data.transforms import ImageTransform
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.structures.bounding_box import BoxList

BOX_TOLERANCE = 0.01  # pixels
SCORE_TOLERANCE = 1e-4
MASK_TOLERANCE = 1e-3
LOGIT_TOLERANCE = 1e-3
MOST_MOVED = 0.02
_PAIRED = ("boxes", "scores", "labels")

OpenFile = Callable[[Tensor, tuple[int, int]], dict[str, Tensor]]
"""Takes pixels and the size of the original image, gives a file's outputs by name."""


@dataclass(frozen=True)
class Agreement:
    """How far the detections of a file are from those of the model.

    Attributes:
        counts: detections of the model, of the file.
        boxes: largest difference of a coordinate in pixels; infinite where counts differ.
        scores: the same of scores, place by place.
        masks: the same of mask probabilities and of masks' scores; 0 without masks.
        logits: the same of key points' logits; 0 without key points.
        moved: share of key points that lie elsewhere. Where two pixels of a heat map are as high
            but for rounding, either is right.
        labels: whether all are the same.
    """

    counts: tuple[int, int]
    boxes: float = float("inf")
    scores: float = float("inf")
    masks: float = float("inf")
    logits: float = float("inf")
    moved: float = 1.0
    labels: bool = False

    @property
    def good(self) -> bool:
        """Whether they are the same but for rounding."""
        within = [
            (self.boxes, BOX_TOLERANCE),
            (self.scores, SCORE_TOLERANCE),
            (self.masks, MASK_TOLERANCE),
            (self.logits, LOGIT_TOLERANCE),
            (self.moved, MOST_MOVED),
        ]
        return self.labels and all(value <= tolerance for value, tolerance in within)

    def __str__(self) -> str:
        if self.counts[0] != self.counts[1]:
            return f"the model finds {self.counts[0]} objects, the file {self.counts[1]}"
        parts = [
            f"{self.counts[0]} objects; boxes differ by at most {self.boxes:.1e} pixels",
            f"scores by {self.scores:.1e}",
        ]
        if self.masks:
            parts.append(f"masks by {self.masks:.1e}")
        if self.logits:
            parts.append(f"key points' logits by {self.logits:.1e} ({self.moved:.1%} elsewhere)")
        return f"{', '.join(parts)}; classes {'are the same' if self.labels else 'DIFFER'}"


def compare(
    detector: Detector, run: Callable[..., dict[str, Tensor]], image: np.ndarray
) -> Agreement:
    """Runs a file and the detector that it was made of on one image.

    Args:
        detector: the model.
        run: what ``open_file`` gives for an .onnx or .pt2 file of ``export_detector``.
        image: (H, W, 3) uint8 RGB.
    """
    found = run(network_pixels(detector.transform, image), image.shape[:2])
    return agreement(detector([image])[0], found)


def agreement(expected: BoxList, found: dict[str, Tensor]) -> Agreement:
    """Compares detections.

    Args:
        expected: of the model.
        found: outputs of the file, by name.
    """
    counts = len(expected), len(found["scores"])
    if counts[0] != counts[1]:
        return Agreement(counts)
    scores, labels = expected.get_field("scores"), expected.get_field("labels")
    by_place = _largest(found["scores"] - scores)
    order = _pairs((expected.bbox, scores, labels), *(found[name] for name in _PAIRED))
    found = {name: values[order] for name, values in found.items()}
    masks = logits = moved = 0.0
    if expected.has_field("mask"):
        masks = _largest(found["masks"] - expected.get_field("mask")[:, 0])
    if expected.has_field("mask_scores"):
        masks = max(masks, _largest(found["mask_scores"] - expected.get_field("mask_scores")))
    if expected.has_field("keypoints"):
        points = expected.get_field("keypoints")
        logits = _largest(found["keypoints"][..., 2] - points.get_field("logits"))
        away = (found["keypoints"] - points.keypoints)[..., :2].abs().amax(dim=2) > BOX_TOLERANCE
        moved = float(away.float().mean()) if away.numel() else 0.0
    return Agreement(
        counts,
        boxes=_largest(found["boxes"] - expected.bbox),
        scores=by_place,
        masks=masks,
        logits=logits,
        moved=moved,
        labels=bool((found["labels"] == labels).all()),
    )


def _pairs(
    expected: tuple[Tensor, Tensor, Tensor], boxes: Tensor, scores: Tensor, labels: Tensor
) -> Tensor:
    """(D,) int64: for each of D expected detections the one that is meant by it.

    That is the nearest one that scores the same, but for rounding; or else the one at its place.

    Args:
        expected: boxes (D, 4), scores (D,), labels (D,), by descending score.
        boxes, scores, labels: the same of those found.
    """
    distances = (expected[0][:, None] - boxes).abs().amax(dim=2)  # (D, D)
    tied = (expected[1][:, None] - scores).abs() <= SCORE_TOLERANCE
    distances[~tied | (expected[2][:, None] != labels)] = torch.inf
    order = torch.arange(len(scores))
    for place in range(len(scores)):
        # The nearest among those that are not taken, exchanged with what stood here.
        nearest = place + int(distances[place, order[place:]].argmin())
        if distances[place, order[nearest]] < torch.inf:
            order[[place, nearest]] = order[[nearest, place]]
    return order


def network_pixels(transform: ImageTransform, image: np.ndarray) -> Tensor:
    """(3, H', W') float32 RGB in 0..255: an image at the network's scale, as a file takes it.

    Args:
        transform: of the model.
        image: (H, W, 3) uint8 RGB.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in (transform.mean, transform.std))
    pixels = transform(image) * std + mean
    return pixels.flip(0) if transform.to_bgr255 else pixels * 255


def open_file(path: str | Path) -> OpenFile:
    """Loads an exported file.

    Args:
        path: an .onnx or .pt2 file.

    Returns:
        A function of pixels (3, H', W') float32, see ``network_pixels``, and of the height and
        width of the image before it was resized, which returns the file's outputs by name.
    """
    return _open_onnx(path) if Path(path).suffix == ".onnx" else _open_pt2(path)


def _open_onnx(path: str | Path) -> OpenFile:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(pixels: Tensor, original_size: tuple[int, int]) -> dict[str, Tensor]:
        inputs = {"image": pixels.numpy(), "original_size": np.array(original_size)}
        return dict(zip(names, map(torch.from_numpy, session.run(names, inputs)), strict=True))

    return run


def _open_pt2(path: str | Path) -> OpenFile:
    import torchvision  # noqa: F401  (registers its operators)

    graph = torch.export.load(path).module()

    def run(pixels: Tensor, original_size: tuple[int, int]) -> dict[str, Tensor]:
        with torch.inference_mode():
            return graph(pixels, torch.tensor(original_size))

    return run


def _largest(differences: Tensor) -> float:
    """The largest absolute value, 0 of none."""
    return float(differences.abs().max()) if differences.numel() else 0.0
