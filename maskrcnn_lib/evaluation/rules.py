"""Scores the results of a data set by the rules that are its own."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_lib.evaluation.cityscapes_eval import evaluate_cityscapes
from maskrcnn_lib.evaluation.coco_eval import evaluate_coco
from maskrcnn_lib.evaluation.coco_results import check_results
from maskrcnn_lib.evaluation.ground_truth import coco_content, image_id
from maskrcnn_lib.evaluation.scores import Scores
from maskrcnn_lib.evaluation.voc_eval import evaluate_voc

logger = logging.getLogger(__name__)

Results = Sequence[Mapping[str, Any]]

# What the annotated objects need to have for a kind of result to be scored.
_TRUTH_KEYS = {"segm": "segmentation", "keypoints": "keypoints"}


def score_results(
    dataset: Any,
    results: Mapping[str, Results],
    *,
    backend: str = "auto",
    sigmas: Sequence[float] = (),
) -> dict[str, Scores]:
    """Scores per kind of result.

    Args:
        dataset: its attribute ``evaluation_rules`` names the rules: ``"voc"`` for boxes and masks,
            ``"cityscapes"`` for masks, given ``instance_ids(index)``; other kinds, and data sets
            without the attribute, are scored by COCO's.
        results: COCO results per kind (``bbox``, ``segm``, ``keypoints``). A kind that the data set
            has no truth for is left out, with a warning.
        backend, sigmas: see :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.
    """
    rules = getattr(dataset, "evaluation_rules", "coco")
    content = coco_content(dataset)
    scores = {}
    for kind, found in results.items():
        if not has_truth(content, kind):
            logger.warning(
                "the model gives %s, but the annotations have none: they are not scored", kind
            )
        elif rules == "cityscapes" and kind == "segm":
            scores[kind] = _score_cityscapes(dataset, found)
        elif rules == "voc" and kind in ("bbox", "segm"):
            scores[kind] = evaluate_voc(content, found, kind)
        else:
            scores[kind] = evaluate_coco(content, found, kind, backend=backend, sigmas=sigmas)
    return scores


def has_truth(content: Mapping[str, Any], kind: str) -> bool:
    """Whether all objects have masks, or any has keypoints; an empty data set has everything."""
    if kind not in _TRUTH_KEYS or not content["annotations"]:
        return True
    has = [_TRUTH_KEYS[kind] in entry for entry in content["annotations"]]
    return all(has) if kind == "segm" else any(has)


def _score_cityscapes(dataset: Any, found: Results) -> Scores:
    positions = range(len(dataset))
    by_image: dict[int, list] = {image_id(dataset, index): [] for index in positions}
    check_results(found, "segm", by_image)
    for result in found:
        by_image[result["image_id"]].append(result)
    return evaluate_cityscapes(
        (dataset.instance_ids(index) for index in positions),
        list(by_image.values()),
        dataset.categories,
    )
