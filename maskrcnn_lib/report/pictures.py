"""Pictures of what was annotated beside what was found."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_lib.engine.testing import read_images
from maskrcnn_lib.evaluation.coco_results import check_results
from maskrcnn_lib.evaluation.ground_truth import coco_content, image_id
from maskrcnn_lib.evaluation.overlaps import run_lengths
from maskrcnn_lib.report.collect import with_keypoints
from maskrcnn_lib.report.errors import Verdict, judge
from maskrcnn_lib.report.matching import match_images
from maskrcnn_lib.report.outlines import bounding_box
from maskrcnn_lib.structures.rle import decode_rle
from maskrcnn_lib.visualization.colors import class_colors
from maskrcnn_lib.visualization.draw import draw_boxes, draw_keypoints, draw_labels, draw_masks
from maskrcnn_lib.visualization.pages import image_page


def comparisons(
    dataset: Any,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    threshold: float = 0.5,
    worst_first: bool = False,
    first: int | None = None,
    images: range | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Images with annotated objects on the left and detections on the right.

    Args:
        dataset: see :func:`maskrcnn_lib.evaluation.ground_truth.coco_content`.
        results: COCO results per kind; of masks, boxes and keypoints the first of these that there
            is, with the keypoints of the same detections. Annotated masks are drawn beside masks.
        threshold: detections below it are not drawn.
        worst_first: images with the most wrong detections and missed objects first, instead of in
            the order of the data set; not for keypoints.
        first: how many images; by default all.
        images: their positions in the data set; by default all.

    Yields:
        The file name of an image in the data set, and the (H, W, 3) uint8 RGB picture.

    Raises:
        ValueError: results do not fit the data set; an image cannot be read.
    """
    kind = next(kind for kind in ("segm", "bbox", "keypoints") if kind in results)
    content = coco_content(dataset)
    check_results(results[kind], kind, {image["id"] for image in content["images"]})
    confident = [r for r in with_keypoints(results, kind) if r["score"] >= threshold]
    positions = list(range(len(dataset)) if images is None else images)
    if worst_first:
        mistakes = _mistakes(content, confident, kind)
        positions.sort(key=lambda index: -mistakes[image_id(dataset, index)])
    names = {category["id"]: category["name"] for category in content["categories"]}
    connections = getattr(getattr(dataset, "skeleton", None), "connections", ())
    objects, found = _by_image(content["annotations"]), _by_image(confident)
    draw = partial(_draw, names=names, connections=connections, with_masks=kind == "segm")
    files = {image["id"]: image["file_name"] for image in content["images"]}
    for index in positions[:first]:
        (image,) = read_images(dataset, [index])
        number = image_id(dataset, index)
        sides = [draw(image, entries.get(number, ())) for entries in (objects, found)]
        yield files[number], image_page(sides, columns=2)


def _mistakes(
    content: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: str
) -> dict[Any, int]:
    """Wrong detections and missed objects per image id."""
    if kind not in ("bbox", "segm"):
        raise ValueError(f"images cannot be sorted by the mistakes of {kind} results")
    counts = {}
    for match in match_images(content, results, kind):
        verdicts = judge(match).verdicts
        right, ignored = verdicts == Verdict.FOUND, verdicts == Verdict.IGNORED
        counts[match.image["id"]] = int((~right & ~ignored).sum() + (~match.is_found).sum())
    return counts


def _by_image(entries: Sequence[Mapping[str, Any]]) -> dict[Any, list[Mapping[str, Any]]]:
    sorted_out: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in entries:
        sorted_out.setdefault(entry["image_id"], []).append(entry)
    return sorted_out


def _draw(
    image: np.ndarray,
    entries: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[Any, str],
    connections: Sequence[tuple[int, int]],
    with_masks: bool,
) -> np.ndarray:
    """An image with annotations or results; crowd regions as masks without a box."""
    known = [entry for entry in entries if entry["category_id"] in names]
    places = {number: label for label, number in enumerate(sorted(names), start=1)}
    colors = class_colors(np.array([places[entry["category_id"]] for entry in known]))
    size = image.shape[:2]
    with_mask = [i for i, e in enumerate(known) if with_masks and e.get("segmentation")]
    bitmaps = (
        (decode_rle(run_lengths(known[i]["segmentation"], size), size), (0, 0)) for i in with_mask
    )
    drawn = draw_masks(image, bitmaps, colors[with_mask])
    with_points = [entry["keypoints"] for entry in known if entry.get("keypoints")]
    if with_points:
        points = np.array(with_points, dtype=np.float64).reshape(len(with_points), -1, 3)
        drawn = draw_keypoints(drawn, points, connections)
    named = [i for i, entry in enumerate(known) if "bbox" in entry and not entry.get("iscrowd", 0)]
    named += [i for i in with_mask if "bbox" not in known[i]]
    if not named:
        return drawn
    boxes = np.array([_corners(known[i], size) for i in named])
    texts = [_text(known[i], names) for i in named]
    drawn = draw_boxes(drawn, boxes, colors[named])
    return draw_labels(drawn, boxes, texts, colors[named])


def _corners(entry: Mapping[str, Any], size: tuple[int, int]) -> list[float]:
    x, y, width, height = entry.get("bbox") or bounding_box(entry["segmentation"], size)
    return [x, y, x + width, y + height]


def _text(entry: Mapping[str, Any], names: Mapping[Any, str]) -> str:
    score = f" {entry['score']:.2f}" if "score" in entry else ""
    return f"{names[entry['category_id']]}{score}"


def picture_name(file_name: str, suffix: str) -> str:
    """The name of the picture of an image: of one in a sub-directory, with its name in front."""
    return "_".join(Path(file_name).with_suffix(f".{suffix}").parts)
