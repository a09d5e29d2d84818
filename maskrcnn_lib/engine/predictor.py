"""COCODemo: from an image to a picture of what is on it, in one object."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.transforms.image_transform import check_image
from maskrcnn_lib.engine.inference import Weights, build_detector, default_model
from maskrcnn_lib.engine.postprocess import keep_confident
from maskrcnn_lib.layers import paste_masks
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.visualization.colors import class_colors, instance_colors
from maskrcnn_lib.visualization.crops import instance_crops
from maskrcnn_lib.visualization.draw import (
    draw_boxes,
    draw_masks,
    draw_skeletons,
    largest_first,
)
from maskrcnn_lib.visualization.heat_maps import mask_montage
from maskrcnn_lib.visualization.labels import draw_labels

# Images per forward pass of compute_predictions; bounds its memory.
_BATCH_SIZE = 8

COLOR_BY = ("instance", "class")
"""What the colours of a picture tell apart."""


class COCODemo:
    """Runs a model on images and draws what it finds, with maskrcnn-benchmark's interface.

    Images go in and come out as OpenCV holds them: (H, W, 3) uint8 BGR. Several threads may use
    one object.

    Args:
        cfg: configuration, or its name or file; by default that of a COCO model whose weights are
            at hand, else of the small one that comes with the package.
        confidence_threshold: detections with a lower score are not shown.
        show_mask_heatmaps: run_on_opencv_image returns a montage of the mask probabilities.
        masks_per_dim: the montage has this many rows and columns.
        min_image_size: short side of the network's input; by default ``INPUT.MIN_SIZE_TEST``.
        weights: path, catalog name, URL or state dict; by default ``MODEL.WEIGHT``.
        color_by: "instance": neighbours have different colours; "class": those of
            :meth:`compute_colors_for_labels`, which do not change from frame to frame.

    Attributes:
        CATEGORIES: class name per label as the checkpoint gives them, index 0 the background.
        detector: the model itself, see :class:`maskrcnn_lib.engine.inference.Detector`.
    """

    def __init__(
        self,
        cfg: Any = None,
        confidence_threshold: float = 0.7,
        show_mask_heatmaps: bool = False,
        masks_per_dim: int = 2,
        min_image_size: int | None = None,
        weights: Weights | None = None,
        color_by: str = "instance",
    ) -> None:
        if color_by not in COLOR_BY:
            raise ValueError(f"color_by must be {' or '.join(COLOR_BY)}, got {color_by!r}")
        if not 0 <= confidence_threshold <= 1:
            raise ValueError(
                f"confidence_threshold must lie within 0 and 1, but is {confidence_threshold}"
            )
        if min_image_size is not None and min_image_size < 1:
            raise ValueError(f"min_image_size must be at least 1 pixel, but is {min_image_size}")
        is_name = cfg is None or isinstance(cfg, str | Path)
        self.cfg = get_cfg(cfg or default_model()) if is_name else cfg.clone()
        self.confidence_threshold = confidence_threshold
        self.show_mask_heatmaps = show_mask_heatmaps
        self.masks_per_dim = masks_per_dim
        self.color_by = color_by
        self.detector = build_detector(self.cfg, weights, min_image_size=min_image_size)
        self.CATEGORIES = list(self.detector.class_names)

    def run_on_opencv_image(self, image: np.ndarray) -> np.ndarray:
        """Detects and draws.

        Returns:
            A BGR image of the same size with boxes, masks and class names, or the montage of heat
            maps if ``show_mask_heatmaps``.
        """
        top = self.select_top_predictions(self.detector([_rgb(image)])[0])
        return self.draw(image, top)

    def compute_prediction(self, original_image: np.ndarray) -> BoxList:
        """All detections of one image, see :meth:`compute_predictions`."""
        return self.compute_predictions([original_image])[0]

    def compute_predictions(self, images: Sequence[np.ndarray]) -> list[BoxList]:
        """All detections of several images, whatever their scores, by descending score.

        Returns:
            BoxLists on the CPU in pixels of each image with fields ``scores``, ``labels`` and,
            for a Mask R-CNN, ``mask``: (N, 1, H, W) bool bitmaps, or with ``show_mask_heatmaps``
            the (N, 1, M, M) probabilities inside the boxes. ``self.detector(images)`` takes RGB
            and gives the probabilities only, which is cheaper on large images.
        """
        predictions = []
        for start in range(0, len(images), _BATCH_SIZE):
            batch = [_rgb(image) for image in images[start : start + _BATCH_SIZE]]
            predictions += self.detector(batch)
        return predictions if self.show_mask_heatmaps else [self._paste(p) for p in predictions]

    def select_top_predictions(self, predictions: BoxList) -> BoxList:
        """Detections above the confidence threshold, by descending score."""
        return keep_confident(predictions, self.confidence_threshold)

    def draw(self, image: np.ndarray, predictions: BoxList) -> np.ndarray:
        """Draws all that the predictions hold, or the heat maps if ``show_mask_heatmaps``.

        Raises:
            ValueError: the predictions are of an image of another size.
        """
        check_image(image)
        if predictions.size != (image.shape[1], image.shape[0]):
            raise ValueError(
                f"the image is {image.shape[1]} x {image.shape[0]} pixels, but the predictions are "
                f"of one of {predictions.size[0]} x {predictions.size[1]}"
            )
        if self.show_mask_heatmaps and predictions.has_field("mask"):
            return self.create_mask_montage(image, predictions)
        if predictions.has_field("mask"):
            image = self.overlay_mask(image, predictions)
        image = self.overlay_boxes(image, predictions)
        if predictions.has_field("keypoints"):
            image = self.overlay_keypoints(image, predictions)
        return self.overlay_class_names(image, predictions)

    def compute_colors_for_labels(self, labels: torch.Tensor) -> np.ndarray:
        """(N, 3) uint8 BGR: a fixed colour per class."""
        return class_colors(labels.cpu().numpy())[:, ::-1]

    def overlay_boxes(self, image: np.ndarray, predictions: BoxList) -> np.ndarray:
        """Draws the boxes."""
        boxes, order = _boxes(predictions), largest_first(_boxes(predictions))
        return draw_boxes(image, boxes[order], self._colors(predictions)[order])

    def overlay_mask(self, image: np.ndarray, predictions: BoxList) -> np.ndarray:
        """Tints the masks and draws their contours."""
        order = largest_first(_boxes(predictions))
        crops = instance_crops(predictions[order], paste=self.detector.paste_rule)
        return draw_masks(image, crops, self._colors(predictions)[order])

    def overlay_keypoints(self, image: np.ndarray, predictions: BoxList) -> np.ndarray:
        """Draws the skeletons."""
        keypoints = predictions.get_field("keypoints")
        return draw_skeletons(image, keypoints, self._colors(predictions))

    def overlay_class_names(self, image: np.ndarray, predictions: BoxList) -> np.ndarray:
        """Writes class name and score at each box."""
        scores = predictions.get_field("scores").tolist()
        names = [self.class_name(label) for label in predictions.get_field("labels").tolist()]
        texts = [f"{name}: {score:.2f}" for name, score in zip(names, scores, strict=True)]
        return draw_labels(image, _boxes(predictions), texts, self._colors(predictions))

    def create_mask_montage(self, image: np.ndarray, predictions: BoxList) -> np.ndarray:
        """Heat maps of the first masks, ``masks_per_dim`` squared at most, in a grid."""
        return mask_montage(image, predictions, self.masks_per_dim)[..., ::-1]

    def class_name(self, label: int) -> str:
        """Name of a label, also of one that the checkpoint did not name."""
        return self.CATEGORIES[label] if label < len(self.CATEGORIES) else f"class {label}"

    def _colors(self, predictions: BoxList) -> np.ndarray:
        if self.color_by == "class":
            return self.compute_colors_for_labels(predictions.get_field("labels"))
        return instance_colors(_boxes(predictions))[:, ::-1]

    def _paste(self, predictions: BoxList) -> BoxList:
        if not predictions.has_field("mask"):
            return predictions
        width, height = predictions.size
        rule = self.detector.paste_rule
        pasted = paste_masks(
            predictions.get_field("mask"),
            rule.boxes(predictions.bbox),
            (height, width),
            aligned=rule.aligned,
        )
        predictions.add_field("mask", pasted[:, None])
        return predictions


def _boxes(predictions: BoxList) -> np.ndarray:
    """(N, 4) xyxy."""
    return predictions.convert("xyxy").bbox.cpu().numpy()


def _rgb(image: np.ndarray) -> np.ndarray:
    """An OpenCV image in the order of the detector."""
    check_image(image)
    return image[..., ::-1]
