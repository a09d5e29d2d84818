"""The images of a report: thumbnails, and what was annotated and found on each."""

import base64
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_lib.evaluation.ground_truth import image_id
from maskrcnn_lib.report.errors import Judged
from maskrcnn_lib.report.matching import MatchedKind
from maskrcnn_lib.report.outlines import bounding_box, outline_text

logger = logging.getLogger(__name__)

_QUALITY = 60  # of the JPEG thumbnails
_LARGEST_SIDE, _SMALLEST_SIDE = 512, 192
_FULL_SIZE_IMAGES = 300  # more images get smaller thumbnails, so that the file stays of use
_SCORE_SCALE = 1000


def thumbnail_side(count: int) -> int:
    """Longer side in pixels of the thumbnails of ``count`` images: 512 for some, 192 for many."""
    fitting = _LARGEST_SIDE * (_FULL_SIZE_IMAGES / max(count, 1)) ** 0.5
    return int(min(_LARGEST_SIDE, max(_SMALLEST_SIDE, fitting)))


def gallery_items(
    judged: Iterable[Judged],
    kind: MatchedKind,
    category_ids: Sequence[int],
    *,
    min_score: float,
) -> tuple[list[dict[str, Any]], int]:
    """What the page needs to draw the images and to count at any confidence.

    Args:
        judged: of all images.
        kind: what was compared; masks are drawn for ``"segm"``.
        category_ids: in the order in which the page numbers classes.
        min_score: detections below it are left out.

    Returns:
        Per image ``name``, ``width``, ``height``, ``objects`` and ``found``, and how many
        detections were left out. An object is [class, x, y, width, height, root of its area,
        *form]; a detection [class, score in thousandths, verdict, object that it finds or that its
        error is about or -1, object of another class that it covers or -1, x, y, width, height,
        *form]. The form is [outline, key points] without what is not there, the outline "" where
        boxes were compared; of key points x, y, and 1 or 0 for being seen or not.
    """
    places = {number: place for place, number in enumerate(category_ids)}
    items, left_out = [], 0
    for one in judged:
        kept = [i for i, e in enumerate(one.match.found) if e["score"] >= min_score]
        left_out += len(one.match.found) - len(kept)
        image = one.match.image
        size = image["height"], image["width"]
        items.append(
            {
                "name": str(image.get("file_name", image["id"])),
                "width": image["width"],
                "height": image["height"],
                "objects": [_object(entry, places, kind, size) for entry in one.match.objects],
                "found": [_detection(one, i, places, kind, size) for i in kept],
            }
        )
    return items, left_out


def _object(
    entry: Mapping[str, Any], places: Mapping[int, int], kind: MatchedKind, size: tuple[int, int]
) -> list[Any]:
    box = _whole(entry["bbox"])
    area = entry.get("area", entry["bbox"][2] * entry["bbox"][3])
    return [places[entry["category_id"]], *box, round(area**0.5), *_form(entry, kind, size)]


def _detection(
    one: Judged, row: int, places: Mapping[int, int], kind: MatchedKind, size: tuple[int, int]
) -> list[Any]:
    entry, covered = one.match.found[row], one.covers[row]
    box = entry["bbox"] if "bbox" in entry else bounding_box(entry["segmentation"], size)
    # never above the score: a detection vanishes at the confidence that it does not reach
    score = int(entry["score"] * _SCORE_SCALE)
    verdict, concerned = int(one.verdicts[row]), int(one.concerns[row])
    start = [places[entry["category_id"]], score, verdict, concerned, int(covered)]
    return [*start, *_whole(box), *_form(entry, kind, size)]


def _whole(box: Sequence[float]) -> list[int]:
    return np.rint(box).astype(int).tolist()


def _form(entry: Mapping[str, Any], kind: MatchedKind, size: tuple[int, int]) -> list[Any]:
    outline = outline_text(entry["segmentation"], size) if kind == "segm" else ""
    points = np.array(entry.get("keypoints", ())).reshape(-1, 3)
    if not (points[:, 2] > 0).any():
        return [outline] if outline else []
    seen = np.column_stack([np.rint(points[:, :2]), points[:, 2] > 0])
    return [outline, seen.astype(int).reshape(-1).tolist()]


def thumbnails(dataset: Any, ids: Sequence[Any], side: int) -> list[str]:
    """JPEG files in base64, one per image id; "" for images that cannot be read, which are logged.

    Args:
        dataset: with ``read_image(index)``, or ``image_path(index)``, which is faster.
        ids: of the images, as in COCO's content of the data set.
        side: pixels of the longer side.
    """
    from tqdm import tqdm

    positions = {image_id(dataset, index): index for index in range(len(dataset))}
    made, failed = [], []
    for number in tqdm(ids, unit="image", desc="thumbnails", disable=None):
        try:
            made.append(_thumbnail(dataset, positions[number], side))
        except (OSError, ValueError) as error:
            made.append("")
            failed.append(str(error))
    if failed:
        text = "%d of %d images cannot be shown, such as: %s"
        logger.warning(text, len(failed), len(made), failed[0])
    return made


def _thumbnail(dataset: Any, index: int, side: int) -> str:
    import cv2
    from PIL import Image

    pixels = _draft(dataset.image_path(index), side) if hasattr(dataset, "image_path") else None
    if pixels is None:
        pixels = dataset.read_image(index)
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    file = io.BytesIO()
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    Image.fromarray(small).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _draft(path: Path, side: int) -> np.ndarray | None:
    """A JPEG file decoded at a resolution of at least ``side``, which is several times as fast;
    None for other files."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        if image.format != "JPEG":
            return None
        image.draft("RGB", (side, side))
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
