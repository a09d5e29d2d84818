"""Masker: from probabilities inside boxes to bitmaps of the image, under maskrcnn-benchmark's name.

Everything else in this library keeps the small probability maps or goes straight to run-length
codes (``layers.masks_to_rle``), which is cheaper.
"""

from collections.abc import Sequence

from torch import Tensor

from maskrcnn_lib.config.dialects import PasteRule
from maskrcnn_lib.layers.paste_masks import paste_masks
from maskrcnn_lib.structures.bounding_box import BoxList


class Masker:
    """Pastes the masks of detections into their images.

    Args:
        threshold: a pixel belongs to the mask when its probability is above it.
        padding: zeros around a mask before it is resized; the algorithm is defined for 1.
        aligned: False for the paste of Detectron, maskrcnn-benchmark and torchvision, on boxes
            truncated to whole pixels; True for detectron2's, which samples at pixel centres and
            counts pixels that reach the threshold.
        box_end_offset: added to x2 and y2 first. The default is that of the default dialect,
            maskrcnn-benchmark's closed-pixel boxes; others need their ``Dialect.box_end_offset``.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        padding: int = 1,
        *,
        aligned: bool = False,
        box_end_offset: float = -1.0,
    ) -> None:
        if padding != 1:
            raise ValueError(f"padding must be 1, got {padding}")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie within 0 and 1, got {threshold}")
        self.threshold = threshold
        self.rule = PasteRule(aligned, box_end_offset)

    def __call__(self, masks: Sequence[Tensor], boxes: Sequence[BoxList] | BoxList) -> list[Tensor]:
        """Returns per image (n, 1, height, width) bool.

        Args:
            masks: per image (n, 1, M, M) probabilities.
            boxes: per image its n boxes; their size is the size of the bitmaps. A single BoxList
                stands for a list of one.
        """
        if isinstance(boxes, BoxList):
            boxes = [boxes]
        if len(masks) != len(boxes):
            raise ValueError(f"masks of {len(masks)} images, but boxes of {len(boxes)}")
        return [
            self._paste(image_masks, boxlist)
            for image_masks, boxlist in zip(masks, boxes, strict=True)
        ]

    def _paste(self, masks: Tensor, boxlist: BoxList) -> Tensor:
        width, height = boxlist.size
        corners = self.rule.boxes(boxlist.convert("xyxy").bbox)
        pasted = paste_masks(
            masks, corners, (height, width), self.threshold, aligned=self.rule.aligned
        )
        return pasted[:, None]
