"""COCO's average precision, by this library's operators or by a package.

Our own scoring (average_precision.py) serves where the operators are compiled; pycocotools is what
it is tested against. hotcoco and faster-coco-eval, where they are installed, can be chosen.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from maskrcnn_lib.evaluation.average_precision import (
    Curves,
    mean_of_measured,
    precision_curves,
    summarize,
)
from maskrcnn_lib.evaluation.coco_results import check_results
from maskrcnn_lib.evaluation.keypoint_truth import check_sigmas, complete_keypoints
from maskrcnn_lib.evaluation.scores import Scores
from maskrcnn_lib.layers._library import ops_available

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

OWN_BACKEND = "maskrcnn_lib"
# module that must be importable for each package, the fastest first
_PACKAGES = {
    "hotcoco": "hotcoco",
    "faster-coco-eval": "faster_coco_eval",
    "pycocotools": "pycocotools",
}


def available_backends(iou_type: IouType = "bbox") -> list[str]:
    """Backends that can be used here, the fastest first."""
    packages = [name for name, module in _PACKAGES.items() if find_spec(module) is not None]
    is_ours = iou_type != "keypoints" and ops_available()
    return [OWN_BACKEND, *packages] if is_ours else packages


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
        COCO's twelve numbers (ten for keypoints) and AP per class; ``curves`` have areas all,
        small, medium and large (keypoints: all, medium, large) and 1, 10 and 100 detections per
        image and class (keypoints: 20).

    Raises:
        ValueError: the backend is unknown or not installed; a result refers to an image that the
            data set does not have, or lacks a key; keypoints of another number than ``sigmas``;
            with our own scoring also: a mask is none of its image.
    """
    backend = _choose_backend(backend, iou_type)
    if backend == OWN_BACKEND:
        curves = precision_curves(annotations, results, iou_type)
        stats = summarize(curves)
    else:
        stats, curves = _score_by_package(backend, annotations, results, iou_type, sigmas)
    precision = curves.precision
    names_of_metrics = KEYPOINT_METRICS if iou_type == "keypoints" else METRICS
    names = {c["id"]: c["name"] for c in annotations["categories"]}
    per_class = [mean_of_measured(precision[:, :, k, 0, -1]) for k in range(precision.shape[2])]
    return Scores(
        kind=iou_type,
        metrics=dict(zip(names_of_metrics, stats, strict=True)),
        per_class=dict(zip((names[i] for i in sorted(names)), per_class, strict=True)),
        backend=backend,
        curves=curves,
    )


def _choose_backend(name: str, iou_type: IouType) -> str:
    installed = available_backends(iou_type)
    if name == "auto":
        return installed[0]
    if name not in installed:
        known = ", ".join((OWN_BACKEND, *_PACKAGES))
        raise ValueError(
            f"evaluation backend {name!r} is unknown, not installed or not for {iou_type} (known: "
            f"{known}; usable: {', '.join(installed)}); pip install 'maskrcnn_lib[fast-eval]' adds "
            "hotcoco and faster-coco-eval"
        )
    return name


def _score_by_package(
    backend: str,
    annotations: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    iou_type: IouType,
    sigmas: Sequence[float],
) -> tuple[list[float], Curves]:
    """The numbers of the summary, and the curves."""
    image_ids = {image["id"] for image in annotations["images"]}
    check_results(results, iou_type, image_ids)
    # the packages write into what they are given
    truth, detections = copy.deepcopy(dict(annotations)), [dict(result) for result in results]
    if iou_type == "keypoints":
        sigmas = check_sigmas(sigmas, complete_keypoints(truth))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "hotcoco: kpt_oks_sigmas differ")  # they are meant to
        evaluator = _EVALUATORS[backend](truth, detections, iou_type)
        evaluator.params.imgIds = sorted(image_ids)
        if iou_type == "keypoints":
            evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    count = len(KEYPOINT_METRICS if iou_type == "keypoints" else METRICS)
    stats = [float(value) for value in evaluator.stats[:count]]
    measured = evaluator.eval
    return stats, Curves(np.asarray(measured["precision"]), np.asarray(measured["recall"]))


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

    return COCOeval_faster(coco := COCO(truth), coco.loadRes(detections), iou_type)


def _hotcoco(truth: dict, detections: list, iou_type: IouType) -> Any:
    from hotcoco import COCO, COCOeval

    return COCOeval(coco := COCO(truth), coco.loadRes(detections), iou_type)


_EVALUATORS = {
    "pycocotools": _pycocotools,
    "faster-coco-eval": _faster_coco_eval,
    "hotcoco": _hotcoco,
}
