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
from maskrcnn_lib.visualization.colors import instance_colors
from maskrcnn_lib.visualization.draw import (
    draw_boxes,
    draw_keypoints,
    draw_masks,
    largest_first,
)
from maskrcnn_lib.visualization.labels import draw_labels
from maskrcnn_lib.visualization.pages import image_page

_WRONG = (255, 40, 40)  # the colour of detections that find no object


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

    Neighbours have different colours; a detection has that of the object that it finds at an
    overlap of 0.5, and a wrong one is red. Key points alone are not compared.

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
    names = {category["id"]: category["name"] for category in content["categories"]}
    confident = [
        result
        for result in with_keypoints(results, kind)
        if result["score"] >= threshold and result["category_id"] in names
    ]
    positions = list(range(len(dataset)) if images is None else images)
    if worst_first:
        mistakes = _mistakes(content, confident, kind)
        positions.sort(key=lambda index: -mistakes[image_id(dataset, index)])
    connections = getattr(getattr(dataset, "skeleton", None), "connections", ())
    objects, found = _by_image(content["annotations"]), _by_image(confident)
    draw = partial(_draw, names=names, connections=connections, with_masks=kind == "segm")
    entries = {image["id"]: image for image in content["images"]}
    for index in positions[:first]:
        (image,) = read_images(dataset, [index])
        entry = entries[image_id(dataset, index)]
        part = content | {"images": [entry], "annotations": objects.get(entry["id"], [])}
        colors = _colors(part, found.get(entry["id"], []), kind)
        sides = [
            draw(image, shown, colors=of_side)
            for shown, of_side in zip(
                (part["annotations"], found.get(entry["id"], [])), colors, strict=True
            )
        ]
        yield entry["file_name"], image_page(sides, columns=2)


def _colors(
    content: Mapping[str, Any], found: Sequence[Mapping[str, Any]], kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """(G, 3) and (D, 3) uint8 RGB of the annotated and the found objects of the one image of
    ``content``: a detection has the colour of the object that it finds, a wrong one is red."""
    (image,), objects = content["images"], content["annotations"]
    size = image["height"], image["width"]
    of_objects = instance_colors(_boxes(objects, size), without_red=True)
    if kind not in ("bbox", "segm"):
        return of_objects, instance_colors(_boxes(found, size))
    (match,) = match_images(content, found, kind)
    by_object = {id(entry): color for entry, color in zip(objects, of_objects, strict=True)}
    right = {
        id(match.found[row]): by_object[id(match.objects[match.object_of[row]])]
        for row in np.flatnonzero(match.object_of >= 0)
    }
    of_found = [right.get(id(entry), _WRONG) for entry in found]
    return of_objects, np.array(of_found, dtype=np.uint8).reshape(-1, 3)


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
    colors: np.ndarray,
) -> np.ndarray:
    """An image with annotations or results; crowd regions as masks without a box."""
    size = image.shape[:2]
    boxes = _boxes(entries, size)
    order = largest_first(boxes).tolist()
    with_mask = [i for i in order if with_masks and entries[i].get("segmentation")]
    bitmaps = (
        (decode_rle(run_lengths(entries[i]["segmentation"], size), size), (0, 0)) for i in with_mask
    )
    drawn = draw_masks(image, bitmaps, colors[with_mask])
    boxed = [i for i in order if not entries[i].get("iscrowd", 0)]
    drawn = draw_boxes(drawn, boxes[boxed], colors[boxed])
    with_points = [i for i in order if entries[i].get("keypoints")]
    if with_points:
        points = np.array([entries[i]["keypoints"] for i in with_points], dtype=np.float64)
        points = points.reshape(len(with_points), -1, 3)
        drawn = draw_keypoints(drawn, points, connections, colors[with_points])
    texts = [_text(entries[i], names) for i in boxed]
    return draw_labels(drawn, boxes[boxed], texts, colors[boxed])


def _boxes(entries: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """(N, 4) float64 xyxy; of masks where no box is stated, else of nothing."""
    boxes = np.zeros((len(entries), 4))
    for row, entry in zip(boxes, entries, strict=True):
        if entry.get("bbox"):
            row[:] = entry["bbox"]
        elif entry.get("segmentation"):
            row[:] = bounding_box(entry["segmentation"], size)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _text(entry: Mapping[str, Any], names: Mapping[Any, str]) -> str:
    score = f" {entry['score']:.2f}" if "score" in entry else ""
    return f"{names[entry['category_id']]}{score}"


def picture_name(file_name: str, suffix: str) -> str:
    """The name of the picture of an image: of one in a sub-directory, with its name in front."""
    return "_".join(Path(file_name).with_suffix(f".{suffix}").parts)
