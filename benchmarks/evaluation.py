"""Average precision on synthetic images: this library's scoring against pycocotools'.

    python benchmarks/evaluation.py [--images 5000] [--kinds bbox segm] [--backends all]
        [--rounds 1] [--threads 2] [--files] [--wall]

Images, objects and detections are made up with the numbers of COCO's val2017: 7.3 objects per image
in 80 classes, outlined by polygons, some of them crowds as run lengths; 100 detections per image,
most of them near an object. Each candidate goes from data set and results, as lists of dicts in
memory as ``maskrcnn test`` has them, or with --files as JSON files, to the twelve numbers, which
must agree. pycocotools is used directly, on shallow copies because it writes into its input. Times
are CPU time of the process, all threads together, or with --wall elapsed time.
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from timing import Clock, alternate

from maskrcnn_lib.evaluation.coco_eval import METRICS, available_backends, evaluate_coco
from maskrcnn_lib.layers import masks_to_rle

SIZES = ((480, 640), (640, 480), (427, 640), (612, 612))  # height, width
CLASSES = 80
OBJECTS_PER_IMAGE = 7.3
CROWDS = 0.012  # share of objects
NEAR = 0.7  # share of detections that are near an object
MASK_CELLS = 28
PEER = "pycocotools, directly"


def make_dataset(images: int, random: Generator) -> dict[str, Any]:
    """A data set in COCO's form."""
    content: dict[str, Any] = {
        "images": [],
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)],
        "annotations": [],
    }
    for image in range(images):
        height, width = SIZES[random.integers(len(SIZES))]
        content["images"].append({"id": image + 1, "height": height, "width": width})
        # an image shows objects of few classes
        shown = random.integers(1, CLASSES + 1, size=3)
        for _ in range(random.poisson(OBJECTS_PER_IMAGE)):
            entry = _make_object(height, width, random)
            category = int(shown[random.integers(3)])
            number = len(content["annotations"]) + 1
            entry |= {"id": number, "image_id": image + 1, "category_id": category}
            content["annotations"].append(entry)
    return content


def _make_object(height: int, width: int, random: Generator) -> dict[str, Any]:
    """Box, area and outline of an object: a polygon of 26 points, or run lengths of a crowd."""
    extent = np.exp(random.uniform(np.log(12), np.log(360), 2))
    extent = np.minimum(extent, [width - 2, height - 2])
    centre = extent / 2 + random.random(2) * ([width, height] - extent)
    angles = np.linspace(0, 2 * np.pi, 27)[:-1]
    radius = random.uniform(0.8, 1.0, (26, 1))
    points = centre + extent / 2 * radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = points.round(2)
    low, high = points.min(axis=0), points.max(axis=0)
    bbox = [*low.tolist(), *(high - low).tolist()]
    entry = {"bbox": bbox, "area": float(0.6 * bbox[2] * bbox[3]), "iscrowd": 0}
    if random.random() >= CROWDS:
        return entry | {"segmentation": [points.ravel().tolist()]}
    x, y, w, h = (int(value) for value in bbox)
    before, last = x * height + y, (x + w) * height + y
    runs = [before, *([h, height - h] * w)]
    total = height * width
    return entry | {
        "iscrowd": 1,
        "segmentation": {"size": [height, width], "counts": [*runs, total - last]},
    }


def make_results(
    dataset: dict[str, Any], per_image: int, random: Generator
) -> dict[str, list[dict[str, Any]]]:
    """Box and mask results, ``per_image`` for each image."""
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in dataset["images"]}
    for entry in dataset["annotations"]:
        objects[entry["image_id"]].append(entry)
    found: dict[str, list[dict[str, Any]]] = {"bbox": [], "segm": []}
    shapes = _mask_shapes(random)
    for image in dataset["images"]:
        size = image["height"], image["width"]
        boxes, categories = _make_boxes(objects[image["id"]], size, per_image, random)
        corners = torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
        masks = shapes[torch.from_numpy(random.integers(len(shapes), size=per_image))]
        rles = masks_to_rle(masks, corners.float(), size)
        scores = random.random(per_image).round(4)
        for box, category, score, rle in zip(
            boxes.round(2).tolist(), categories.tolist(), scores.tolist(), rles, strict=True
        ):
            result = {"image_id": image["id"], "category_id": category, "score": score}
            found["bbox"].append(result | {"bbox": box})
            mask = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
            found["segm"].append(result | {"segmentation": mask})
    return found


def _make_boxes(
    objects: list[dict[str, Any]], size: tuple[int, int], count: int, random: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (count, 4) xywh and their categories, most of them near an object."""
    height, width = size
    extent = np.exp(random.uniform(np.log(12), np.log(360), (count, 2)))
    boxes = np.concatenate([random.random((count, 2)) * [width, height], extent], axis=1)
    categories = random.integers(1, CLASSES + 1, size=count)
    near = np.flatnonzero(random.random(count) < NEAR) if objects else []
    for i in near:
        entry = objects[random.integers(len(objects))]
        x, y, w, h = entry["bbox"]
        noise = random.normal(0, random.uniform(0.01, 0.2), 4)
        boxes[i] = [x + noise[0] * w, y + noise[1] * h, w * np.exp(noise[2]), h * np.exp(noise[3])]
        if random.random() < 0.8:
            categories[i] = entry["category_id"]
    low = np.clip(boxes[:, :2], 0, [width - 2, height - 2])
    high = np.clip(boxes[:, :2] + boxes[:, 2:], low + 1, [width, height])
    return np.concatenate([low, high - low], axis=1), categories


def _mask_shapes(random: Generator) -> torch.Tensor:
    """Round objects with uneven borders, (64, M, M) probabilities."""
    axis = torch.linspace(-1, 1, MASK_CELLS)
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    coarse = torch.from_numpy(random.random((64, 1, 5, 5))).float()
    border = torch.nn.functional.interpolate(coarse, (MASK_CELLS, MASK_CELLS), mode="bicubic")[:, 0]
    return torch.sigmoid(12 * (0.6 + 0.5 * border - distance))


def plain_pycocotools(dataset: Any, results: Any, kind: str) -> dict[str, float]:
    """The twelve numbers as pycocotools' own tutorial gets them, from content or paths."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        if isinstance(dataset, Path):
            truth, results = COCO(str(dataset)), str(results)
        else:
            truth, results = COCO(), [dict(result) for result in results]
            annotations = [dict(entry) for entry in dataset["annotations"]]
            truth.dataset = {**dataset, "annotations": annotations}
            truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(METRICS, evaluator.stats.tolist(), strict=True))


def our_scores(dataset: Any, results: Any, kind: str, backend: str) -> dict[str, float]:
    """The twelve numbers as ``maskrcnn test`` gets them, from content or paths."""
    if isinstance(dataset, Path):
        dataset, results = (json.loads(path.read_bytes()) for path in (dataset, results))
    return evaluate_coco(dataset, results, kind, backend=backend).metrics


def compare(
    dataset: Any, results: Any, kind: str, backends: Sequence[str], rounds: int, clock: Clock
) -> dict[str, float]:
    """Median seconds of each backend and of pycocotools, the last.

    Raises:
        ValueError: they disagree.
    """
    scores: dict[str, dict[str, float]] = {}

    def keep(name: str, function: Callable[..., dict[str, float]], *arguments: str) -> None:
        scores[name] = function(dataset, results, kind, *arguments)

    calls = [partial(keep, backend, our_scores, backend) for backend in backends]
    calls.append(partial(keep, PEER, plain_pycocotools))
    seconds = alternate(calls, rounds, clock, warm_up=False)
    for name, metrics in scores.items():
        if not np.allclose(list(metrics.values()), list(scores[PEER].values()), rtol=0, atol=1e-9):
            raise ValueError(f"{name} and pycocotools disagree: {metrics}, {scores[PEER]}")
    return dict(zip(scores, seconds, strict=True))


def main() -> None:
    """Reads the arguments and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    parser.add_argument("--kinds", nargs="+", default=("bbox", "segm"), choices=("bbox", "segm"))
    parser.add_argument("--backends", nargs="+", default=("all",))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--files", action="store_true", help="begin with JSON files")
    parser.add_argument("--wall", action="store_true", help="measure elapsed time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    dataset = make_dataset(options.images, random)
    results = make_results(dataset, options.detections, random)
    backends = options.backends
    if list(backends) == ["all"]:
        backends = [name for name in available_backends() if name != "pycocotools"]
    clock = time.perf_counter if options.wall else time.process_time
    print(f"{options.images} images, {len(dataset['annotations'])} objects", end=", ")
    print(f"{len(results['bbox'])} detections, {'elapsed' if options.wall else 'CPU'} seconds")
    with tempfile.TemporaryDirectory() as directory:
        for kind in options.kinds:
            content: tuple[Any, Any] = (dataset, results[kind])
            if options.files:
                content = tuple(Path(directory) / f"{kind}{i}.json" for i in range(2))
                content[0].write_text(json.dumps(dataset))
                content[1].write_text(json.dumps(results[kind]))
            seconds = compare(*content, kind, backends, options.rounds, clock)
            for name, taken in seconds.items():
                print(f"{kind:6}{name:20}{taken:8.2f}{seconds[PEER] / taken:8.1f}x", flush=True)


if __name__ == "__main__":
    main()
