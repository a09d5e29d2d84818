"""The boxes of one image in the forms that other programs read.

Four of them: a dict of tensors (torchvision, torchmetrics), COCO's results (pycocotools, FiftyOne),
supervision's Detections, and rows of a table (pandas, polars, csv).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.layers.paste_masks import bitmaps_to_rle, masks_to_rle, paste_masks
from maskrcnn_lib.structures.instances import FieldsMixin, Size
from maskrcnn_lib.structures.keypoint import Keypoints
from maskrcnn_lib.structures.mask_input import raster_size

if TYPE_CHECKING:
    import supervision


class Paste(Protocol):
    """How mask probabilities become pixels: a detector's ``paste_rule``."""

    @property
    def aligned(self) -> bool:
        """The argument of ``layers.paste_masks``."""

    def boxes(self, detected: Tensor) -> Tensor:
        """(N, 4) xyxy boxes to paste into, for (N, 4) boxes of detections."""


class ExchangeMixin(FieldsMixin):
    """What BoxList says of itself to other programs.

    Masks are the field ``mask`` of detections, (N, 1, M, M) floating-point probabilities inside the
    boxes or (N, 1, H, W) bool or integer bitmaps of the whole image, or the field ``masks`` of
    annotated objects, a SegmentationMask. Common arguments:

    - ``mask_threshold``: above this probability a pixel belongs to the object.
    - ``paste``: how probabilities become pixels, the detector's ``paste_rule``; by default as
      Detectron, maskrcnn-benchmark and torchvision do.
    - ``class_names``: name per label, index 0 the background; a detector's ``class_names``.
    """

    bbox: Tensor
    size: Size

    def convert(self, mode: Literal["xyxy", "xywh"]) -> "ExchangeMixin":
        """The same boxes in another layout."""
        raise NotImplementedError

    def to_dict(
        self, *, mask_threshold: float = 0.5, paste: Paste | None = None
    ) -> dict[str, Tensor | Any]:
        """All that is known of the boxes, under torchvision's names.

        Returns:
            ``boxes`` (N, 4) float32 x1, y1, x2, y2 in pixels; ``masks`` (N, H, W) bool and
            ``keypoints`` (N, K, 3) float32 (x, y in pixels, visibility) where there are any; all
            other fields under their own names, such as ``labels`` and ``scores`` (N,); and
            ``size``: (width, height) of the image.
        """
        result = {"boxes": self.convert("xyxy").bbox, **self.extra_fields, "size": self.size}
        masks = self._bitmaps(mask_threshold, paste)
        if masks is not None:
            result.pop("mask", None)
            result["masks"] = masks
        if self.has_field("keypoints"):
            result["keypoints"] = self._points()
        return result

    def to_coco(
        self,
        *,
        image_id: int,
        category_ids: Sequence[int] | None = None,
        mask_threshold: float = 0.5,
        paste: Paste | None = None,
    ) -> list[dict[str, Any]]:
        """COCO results. Probabilities become run lengths without a bitmap of the image.

        Args:
            image_id: of the image in the data set.
            category_ids: per label, index 0 the background; by default the label itself. Boxes of
                labels whose category id is -1 are left out.
            mask_threshold, paste: see above.

        Returns:
            One dict per box: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in
            pixels); ``score`` where there is a field ``scores``; with masks ``segmentation``
            (compressed RLE whose ``counts`` is a str), and ``mask_score`` where the field
            ``mask_scores`` says how good the masks are; with keypoints ``keypoints`` (3 K numbers
            as they are: COCO counts the centre of the first pixel as 0), and ``keypoint_scores``
            (K logits) where a model found them.

        Raises:
            KeyError: there is no field ``labels``.
            ValueError: a label has no entry in ``category_ids``.
        """
        labels = self.get_field("labels").tolist()
        if category_ids is not None:
            if any(label >= len(category_ids) for label in labels):
                count = len(category_ids)
                raise ValueError(f"label {max(labels)} has no entry in the {count} category_ids")
            kept = [i for i, label in enumerate(labels) if category_ids[label] >= 0]
            if len(kept) < len(labels):
                return self[kept].to_coco(
                    image_id=image_id,
                    category_ids=category_ids,
                    mask_threshold=mask_threshold,
                    paste=paste,
                )
            labels = [category_ids[label] for label in labels]
        columns = {"category_id": labels, "bbox": self.convert("xywh").bbox.tolist()}
        for key, field in (("score", "scores"), ("mask_score", "mask_scores")):
            if self.has_field(field):
                columns[key] = self.get_field(field).tolist()
        segmentations = self._run_lengths(mask_threshold, paste)
        if segmentations is not None:
            columns["segmentation"] = segmentations
        if self.has_field("keypoints"):
            points = self.get_field("keypoints")
            columns["keypoints"] = self._points().flatten(1).tolist()
            if isinstance(points, Keypoints) and points.has_field("logits"):
                logits = points.get_field("logits").double()
                columns["keypoint_scores"] = logits.round(decimals=2).tolist()
        return [{"image_id": image_id, **row} for row in _rows(columns)]

    def to_supervision(
        self,
        *,
        class_names: Sequence[str] | None = None,
        mask_threshold: float = 0.5,
        paste: Paste | None = None,
    ) -> "supervision.Detections":
        """The boxes for the annotators, trackers and zones of the package supervision.

        Returns:
            ``supervision.Detections`` of NumPy arrays: ``xyxy`` (N, 4) float32 in pixels, ``mask``
            (N, H, W) bool, ``confidence`` (N,) float32 and ``class_id`` (N,) int64, each None where
            there is no such field. ``data`` holds ``class_name`` (N,) where names are given,
            ``keypoints`` (N, K, 3), and further fields that are tensors or arrays.

        Raises:
            ModuleNotFoundError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "to_supervision() needs that package: pip install supervision"
            ) from error
        known = {
            name: value.cpu().numpy() if isinstance(value, Tensor) else value
            for name, value in self.to_dict(mask_threshold=mask_threshold, paste=paste).items()
            if isinstance(value, Tensor | np.ndarray)
        }
        xyxy, mask = known.pop("boxes"), known.pop("masks", None)
        confidence, class_id = known.pop("scores", None), known.pop("labels", None)
        if class_names is not None and class_id is not None:
            known["class_name"] = np.array([_name(class_names, label) for label in class_id], str)
        return Detections(
            xyxy=xyxy, mask=mask, confidence=confidence, class_id=class_id, data=known
        )

    def to_rows(
        self,
        *,
        class_names: Sequence[str] | None = None,
        mask_threshold: float = 0.5,
        paste: Paste | None = None,
    ) -> list[dict[str, Any]]:
        """One row of a table per box, as in ``pandas.DataFrame(boxes.to_rows())``.

        Returns:
            Dicts of the same keys: ``x1``, ``y1``, ``x2``, ``y2`` in pixels, ``area`` of the box in
            square pixels; ``label``, ``class_name`` (where names are given) and ``score``;
            ``mask_area`` in pixels; for each key point its name with ``_x``, ``_y`` and
            ``_visibility``. All other fields with one value per box keep their names. Values are
            Python's numbers, and lists where a field has several per box.
        """
        boxes = self.convert("xyxy").bbox
        columns = dict(zip(("x1", "y1", "x2", "y2"), boxes.T.tolist(), strict=True))
        columns["area"] = self.convert("xywh").bbox[:, 2:].prod(dim=1).tolist()
        names = {"labels": "label", "scores": "score"}
        for field, values in self.extra_fields.items():
            if isinstance(values, Tensor | np.ndarray | list | tuple) and field != "mask":
                plain = values if isinstance(values, list | tuple) else values.tolist()
                columns[names.get(field, field)] = plain
        if class_names is not None and "label" in columns:
            columns["class_name"] = [_name(class_names, label) for label in columns["label"]]
        masks = self._bitmaps(mask_threshold, paste)
        if masks is not None:
            columns["mask_area"] = masks.sum(dim=(1, 2)).tolist()
        if self.has_field("keypoints"):
            columns.pop("keypoints", None)
            columns |= _keypoint_columns(self.get_field("keypoints"), self._points())
        return _rows(columns)

    def _bitmaps(self, threshold: float, paste: Paste | None) -> Tensor | None:
        """(N, H, W) bool; None without masks."""
        if self.has_field("masks"):
            return self.get_field("masks").get_mask_tensor()
        if not self.has_field("mask"):
            return None
        masks = self.get_field("mask")
        if not masks.is_floating_point():
            return masks[:, 0] != 0
        size = raster_size(self.size)
        aligned = paste is not None and paste.aligned
        return paste_masks(masks, self._paste_boxes(paste), size, threshold, aligned=aligned)

    def _run_lengths(self, threshold: float, paste: Paste | None) -> list[dict[str, Any]] | None:
        """COCO's compressed RLE per box, as JSON takes it; None without masks."""
        if self.has_field("mask") and self.get_field("mask").is_floating_point():
            masks, size = self.get_field("mask"), raster_size(self.size)
            aligned = paste is not None and paste.aligned
            rles = masks_to_rle(masks, self._paste_boxes(paste), size, threshold, aligned=aligned)
        else:
            bitmaps = self._bitmaps(threshold, paste)
            if bitmaps is None:
                return None
            rles = bitmaps_to_rle(bitmaps)
        return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in rles]

    def _paste_boxes(self, paste: Paste | None) -> Tensor:
        boxes = self.convert("xyxy").bbox
        return boxes if paste is None else paste.boxes(boxes)

    def _points(self) -> Tensor:
        """(N, K, 3) of the field ``keypoints``, which may be such a tensor itself."""
        points = self.get_field("keypoints")
        return points.keypoints if isinstance(points, Keypoints) else torch.as_tensor(points)


def _keypoint_columns(keypoints: Any, points: Tensor) -> dict[str, list[float]]:
    """Three columns per key point."""
    names = getattr(keypoints, "NAMES", ()) or [f"point_{i}" for i in range(1, 1 + points.shape[1])]
    keys = [f"{name}_{part}" for name in names for part in ("x", "y", "visibility")]
    return dict(zip(keys, points.flatten(1).T.tolist(), strict=True))


def _rows(columns: dict[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Columns of one length as a dict per row."""
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _name(class_names: Sequence[str], label: int) -> str:
    """Name of a label, also of one that has none."""
    return class_names[label] if label < len(class_names) else f"class {label}"
