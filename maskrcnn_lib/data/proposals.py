"""Files of regions that were proposed beforehand, for Fast R-CNN (Girshick, arXiv:1504.08083).

Three formats are read:

* ``.npz``, as ``maskrcnn proposals`` writes it: ``ids`` (I,) int64 of the images, ``counts`` (I,)
  int64, and of all images one after another ``boxes`` (N, 4) float32, ``scores`` (N,) float32;
* ``.json``: ``{"images": [{"id": 1, "boxes": [[x1, y1, x2, y2], ...], "scores": [...]}, ...]}``;
* ``.pkl`` of Detectron: lists ``boxes``, ``scores``, ``ids`` (old: ``indexes``) with one entry per
  image, whose boxes end at their last pixel.

Boxes are in pixels of the original image; here x2 = x1 + width in all of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from maskrcnn_lib.utils.safe_pickle import load_pickle


class Regions(NamedTuple):
    """Proposals of one image, best first.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the original image.
        scores: (N,) float32.
    """

    boxes: np.ndarray
    scores: np.ndarray


def read_proposals(path: str | Path, *, limit: int = 0) -> dict[int, Regions]:
    """Reads proposals by image id.

    Args:
        path: ``.npz``, ``.json`` or ``.pkl``, see above.
        limit: proposals to keep of each image, the best ones; 0 for all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, has an image twice, or numbers that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no proposals at {path}")
    readers = {".npz": _from_npz, ".json": _from_json, ".pkl": _from_detectron}
    if path.suffix not in readers:
        raise ValueError(f"{path}: proposals are read from {', '.join(readers)}")
    found: dict[int, Regions] = {}
    try:
        for image_id, boxes, scores in readers[path.suffix](path):
            if image_id in found:
                raise ValueError(f"image {image_id} comes twice")
            found[image_id] = _checked(image_id, boxes, scores, limit)
    except (KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} cannot be read as proposals: {reason}") from error
    return found


def check_writable(path: str | Path) -> Path:
    """The path; raises ValueError unless it ends in a format that is written."""
    path = Path(path)
    if path.suffix not in (".npz", ".json"):
        raise ValueError(f"{path}: proposals are written to .npz or .json")
    return path


def write_proposals(path: str | Path, proposals: Mapping[int, Regions]) -> None:
    """Writes proposals by image id, in the format that ``path`` ends in: ``.npz`` or ``.json``.

    Raises:
        ValueError: another ending.
    """
    path = check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        images = [
            {"id": image_id, "boxes": regions.boxes.tolist(), "scores": regions.scores.tolist()}
            for image_id, regions in proposals.items()
        ]
        path.write_text(json.dumps({"images": images}))
        return
    regions = list(proposals.values())
    np.savez_compressed(
        path,
        ids=np.array(list(proposals), dtype=np.int64),
        counts=np.array([len(each.boxes) for each in regions], dtype=np.int64),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in regions)]),
        scores=np.concatenate([np.zeros(0, np.float32), *(each.scores for each in regions)]),
    )


def _from_npz(path: Path) -> Iterator[tuple[int, Any, Any]]:
    with np.load(path, allow_pickle=False) as file:
        if not isinstance(file, NpzFile):
            raise ValueError("it is not an .npz archive")
        ids, counts, boxes, scores = (file[name] for name in ("ids", "counts", "boxes", "scores"))
    if counts.shape != ids.shape or counts.sum() != len(boxes) or len(scores) != len(boxes):
        raise ValueError("its counts do not fit its boxes")
    ends = counts.cumsum()
    for image_id, begin, end in zip(ids.tolist(), ends - counts, ends, strict=True):
        yield image_id, boxes[begin:end], scores[begin:end]


def _from_json(path: Path) -> Iterator[tuple[int, Any, Any]]:
    for image in json.loads(path.read_text(encoding="utf-8"))["images"]:
        yield int(image["id"]), image["boxes"], image["scores"]


def _from_detectron(path: Path) -> Iterator[tuple[int, Any, Any]]:
    content = load_pickle(path)
    ids = content["ids"] if "ids" in content else content["indexes"]
    last_pixel_to_end = np.array([0, 0, 1, 1], dtype=np.float32)
    for image_id, boxes, scores in zip(ids, content["boxes"], content["scores"], strict=True):
        yield int(image_id), _as_boxes(boxes) + last_pixel_to_end, scores


def _as_boxes(boxes: Any) -> np.ndarray:
    return np.asarray(boxes, dtype=np.float32).reshape(-1, 4)


def _checked(image_id: int, boxes: Any, scores: Any, limit: int) -> Regions:
    boxes = _as_boxes(boxes)
    scores = np.asarray(scores, dtype=np.float32).reshape(-1)
    if len(boxes) != len(scores):
        raise ValueError(f"image {image_id} has {len(boxes)} boxes and {len(scores)} scores")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"image {image_id} has boxes or scores that are not finite")
    best = np.argsort(-scores, kind="stable")[: limit or None]
    return Regions(boxes[best], scores[best])


def image_ids(dataset: Any) -> Sequence[int]:
    """The id of each image of a data set, by position."""
    if hasattr(dataset, "ids"):
        return list(dataset.ids)
    return [dataset.get_img_info(index)["id"] for index in range(len(dataset))]
