"""From a detector to one graph: pixels of any size in, detections out.

The graph is what ``torch.export`` records while the model runs once; the model's code is the same
as ever. Its operators of this library are still there by name: ``decompositions.py`` and
``onnx_operators.py`` say what stands for them in a file.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from maskrcnn_lib.config.dialects import Dialect
from maskrcnn_lib.data.transforms import ImageTransform
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.postprocess import rescale
from maskrcnn_lib.export.refusals import check_exportable

INPUTS = ("image", "original_size")

# Height and width of the image that the graph is recorded with. They differ, so that the graph
# does not take images to be squares, and no level of a pyramid has less than two rows.
_EXAMPLE_SIZE = (320, 448)


class _Images(NamedTuple):
    """An ImageList of symbols: its sizes are not known while a graph is recorded."""

    tensors: Tensor
    image_sizes: Sequence[tuple[int, int]]

    def size_tensor(self) -> Tensor:
        """(N, 2) int64 heights and widths without padding."""
        return torch.tensor(self.image_sizes)


class ExportableDetector(nn.Module):
    """A detector for one image, from pixels at the network's scale to detections in the original.

    Args:
        model: what ``build_detection_model`` gives, in evaluation mode and float32.
        transform: names mean, standard deviation and channel order.
        dialect: conventions of the model's toolbox.
        size_divisible: height and width are padded to multiples of this; 0 for none.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        transform: ImageTransform,
        dialect: Dialect,
        size_divisible: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.dialect = dialect
        self.size_divisible = max(1, size_divisible)
        self.to_bgr255 = transform.to_bgr255
        self.register_buffer("mean", torch.tensor(transform.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(transform.std)[:, None, None])

    def forward(self, image: Tensor, original_size: Tensor) -> dict[str, Tensor]:
        """Finds the objects.

        Args:
            image: (3, H, W) float32 RGB in 0..255, resized to the network's scale.
            original_size: (2,) int64 height and width of the image before it was resized.

        Returns:
            ``boxes`` (D, 4) float32 xyxy in pixels of the original image; ``scores`` (D,) float32,
            descending; ``labels`` (D,) int64 from 1; with a mask head ``masks`` (D, M, M)
            probabilities inside the boxes, and ``mask_scores`` (D,) where masks are rated; with a
            keypoint head ``keypoints`` (D, P, 3): x and y in pixels of the original image, as
            COCO's annotations have them, and the logit there.
        """
        height, width = image.shape[1], image.shape[2]
        pixels = image.flip(0) if self.to_bgr255 else image / 255
        found = self.model.detect(
            _Images(self._pad((pixels - self.mean) / self.std), [(height, width)])
        )
        end = self.dialect.box_end_offset
        original_height, original_width = original_size.float().unbind()
        ratios = torch.stack((original_width / width, original_height / height))
        outputs = {
            "boxes": rescale(found.boxes[0], ratios.repeat(2), (0, 0, end, end)),
            "scores": found.scores[0],
            "labels": found.labels[0],
        }
        if found.masks is not None:
            outputs["masks"] = found.masks[0]
        if found.mask_scores is not None:
            outputs["mask_scores"] = found.mask_scores[0]
        if found.keypoints is not None:
            places, logits = found.keypoints[0].split((2, 1), dim=2)
            places = rescale(places, ratios, (end / 2, end / 2)) - self.dialect.keypoint_offset
            outputs["keypoints"] = torch.cat((places, logits), dim=2)
        return outputs

    def _pad(self, image: Tensor) -> Tensor:
        """(3, H, W) -> (1, 3, H', W'), zeros below and on the right."""
        below, right = (-side % self.size_divisible for side in image.shape[1:])
        return F.pad(image[None], (0, right, 0, below))


def record(detector: Detector) -> ExportedProgram:
    """Records the graph of a detector, for images of any size.

    Args:
        detector: on the CPU, with layers that are not packed; not changed.

    Raises:
        ValueError: no file can stand for this model; see ``check_exportable``.
        ImportError: the compiled operators, whose names stand in the graph, are not there.
    """
    check_exportable(detector)
    module = ExportableDetector(
        detector.model,
        transform=detector.transform,
        dialect=detector.dialect,
        size_divisible=detector.size_divisible,
    )
    example = torch.zeros(3, *_EXAMPLE_SIZE), torch.tensor(_EXAMPLE_SIZE)
    shapes = {INPUTS[0]: (Dim.STATIC, Dim.DYNAMIC, Dim.DYNAMIC), INPUTS[1]: None}
    with torch.no_grad():
        return torch.export.export(module.eval(), example, dynamic_shapes=shapes)
