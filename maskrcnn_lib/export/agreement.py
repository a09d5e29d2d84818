"""Whether an exported file finds what the model finds."""

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

OpenFile = Callable[[Tensor, tuple[int, int]], dict[str, Tensor]]
"""Takes pixels and the size of the original image, gives a file's outputs by name."""


@dataclass(frozen=True)
class Agreement:
    """How far the detections of a file are from those of the model.

    Attributes:
        counts: detections of the model, of the file.
        boxes: largest difference of a coordinate in pixels; infinite where counts differ.
        scores: the same of scores.
        masks: the same of mask probabilities; 0 without masks.
        labels: whether all are the same.
    """

    counts: tuple[int, int]
    boxes: float = float("inf")
    scores: float = float("inf")
    masks: float = float("inf")
    labels: bool = False

    @property
    def good(self) -> bool:
        """Whether they are the same but for rounding."""
        near = self.boxes <= BOX_TOLERANCE and self.scores <= SCORE_TOLERANCE
        return self.labels and near and self.masks <= SCORE_TOLERANCE * 10

    def __str__(self) -> str:
        if self.counts[0] != self.counts[1]:
            return f"the model finds {self.counts[0]} objects, the file {self.counts[1]}"
        return (
            f"{self.counts[0]} objects; boxes differ by at most {self.boxes:.1e} pixels, scores by "
            f"{self.scores:.1e}, mask probabilities by {self.masks:.1e}; classes "
            f"{'are the same' if self.labels else 'DIFFER'}"
        )


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
    labels = bool((found["labels"] == expected.get_field("labels")).all())
    masks = 0.0
    if "masks" in found:
        masks = _largest(found["masks"] - expected.get_field("mask")[:, 0])
    return Agreement(
        counts,
        boxes=_largest(found["boxes"] - expected.bbox),
        scores=_largest(found["scores"] - expected.get_field("scores")),
        masks=masks,
        labels=labels,
    )


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
