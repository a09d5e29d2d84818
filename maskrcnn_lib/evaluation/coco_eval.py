"""COCO's average precision, by pycocotools or a faster package that gives the same numbers.

The scoring itself is not ours: hotcoco and faster-coco-eval are used where they are installed,
pycocotools otherwise.
"""

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from maskrcnn_lib.evaluation.keypoint_truth import check_sigmas, complete_keypoints
from maskrcnn_lib.evaluation.scores import Scores

IouType = Literal["bbox", "segm", "keypoints"]

METRICS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
# COCO does not score the keypoints of small objects.
KEYPOINT_METRICS = (
    *("AP", "AP50", "AP75", "APm", "APl"),
    *("AR", "AR50", "AR75", "ARm", "ARl"),
)
# What a result of each kind has to say.
_RESULT_KEYS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}

# module that must be importable for each backend, the fastest first
_BACKEND_MODULES = {
    "hotcoco": "hotcoco",
    "faster-coco-eval": "faster_coco_eval",
    "pycocotools": "pycocotools",
}


def available_backends() -> list[str]:
    """Installed backends, the fastest first."""
    return [name for name, module in _BACKEND_MODULES.items() if find_spec(module) is not None]


def evaluate_coco(
    annotations: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    iou_type: IouType,
    *,
    backend: str = "auto",
    sigmas: Sequence[float] = (),
) -> Scores:
    """Scores detections against a COCO data set.

    Args:
        annotations: the data set: a dict with ``images``, ``annotations`` and ``categories``.
        results: COCO results (``image_id``, ``category_id``, ``score`` and ``bbox``,
            ``segmentation`` or ``keypoints``); images without results count as images where
            nothing was found.
        iou_type: which of the three to compare.
        backend: one of :func:`available_backends`, or ``"auto"`` for the first of them.
        sigmas: per keypoint, by how much annotators disagree, relative to the object's size; by
            default those of COCO's 17.

    Returns:
        COCO's twelve numbers (ten for keypoints), and AP per class.

    Raises:
        ValueError: the backend is unknown or not installed; a result refers to an image that the
            data set does not have, or lacks a key; keypoints of another number than ``sigmas``.
    """
    backend = _choose_backend(backend)
    image_ids = {image["id"] for image in annotations["images"]}
    _check_results(results, iou_type, image_ids)
    # the packages write into what they are given
    truth, detections = copy.deepcopy(dict(annotations)), [dict(result) for result in results]
    if iou_type == "keypoints":
        sigmas = check_sigmas(sigmas, complete_keypoints(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = _EVALUATORS[backend](truth, detections, iou_type)
        evaluator.params.imgIds = sorted(image_ids)
        if iou_type == "keypoints":
            evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names_of_metrics = KEYPOINT_METRICS if iou_type == "keypoints" else METRICS
    stats = [float(value) for value in evaluator.stats[: len(names_of_metrics)]]
    names = {c["id"]: c["name"] for c in annotations["categories"]}
    per_class = _per_class(np.asarray(evaluator.eval["precision"]))
    return Scores(
        kind=iou_type,
        metrics=dict(zip(names_of_metrics, stats, strict=True)),
        per_class=dict(zip((names[i] for i in sorted(names)), per_class, strict=True)),
        backend=backend,
    )


def _choose_backend(name: str) -> str:
    installed = available_backends()
    if name == "auto":
        return installed[0]
    if name not in installed:
        known = ", ".join(_BACKEND_MODULES)
        raise ValueError(
            f"evaluation backend {name!r} is not installed or unknown (known: {known}; "
            f"installed: {', '.join(installed)}); pip install 'maskrcnn_lib[fast-eval]' adds the "
            "fast ones"
        )
    return name


def _check_results(
    results: Sequence[Mapping[str, Any]], iou_type: IouType, image_ids: set[int]
) -> None:
    needed = ("image_id", "category_id", "score", _RESULT_KEYS[iou_type])
    for index, result in enumerate(results):
        missing = [key for key in needed if key not in result]
        if missing:
            raise ValueError(f"result {index} lacks {', '.join(missing)}")
        if result["image_id"] not in image_ids:
            raise ValueError(
                f"result {index} is of image {result['image_id']}, which the data set does not have"
            )


def _per_class(precision: np.ndarray) -> list[float]:
    """Mean precision over IoU thresholds and recalls; precision: (T, R, K, areas, max dets)."""
    averages = []
    for category in range(precision.shape[2]):
        values = precision[:, :, category, 0, -1]
        values = values[values > -1]
        averages.append(float(values.mean()) if values.size else -1.0)
    return averages


def _pycocotools(truth: dict, detections: list, iou_type: IouType) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def index(dataset: dict) -> COCO:
        coco = COCO()
        coco.dataset = dataset
        coco.createIndex()
        return coco

    coco_truth = index(truth)
    if detections:
        return COCOeval(coco_truth, coco_truth.loadRes(detections), iou_type)
    # loadRes looks at the first result to learn the kind of all
    empty = {"images": truth["images"], "categories": truth["categories"], "annotations": []}
    return COCOeval(coco_truth, index(empty), iou_type)


def _faster_coco_eval(truth: dict, detections: list, iou_type: IouType) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    coco_truth = COCO(truth)
    return COCOeval_faster(coco_truth, coco_truth.loadRes(detections), iou_type)


def _hotcoco(truth: dict, detections: list, iou_type: IouType) -> Any:
    from hotcoco import COCO, COCOeval

    coco_truth = COCO(truth)
    return COCOeval(coco_truth, coco_truth.loadRes(detections), iou_type)


_EVALUATORS = {
    "pycocotools": _pycocotools,
    "faster-coco-eval": _faster_coco_eval,
    "hotcoco": _hotcoco,
}
