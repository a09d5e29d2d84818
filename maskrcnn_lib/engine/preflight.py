"""What a training looks at before it begins: directory, images, classes, schedule, expectations."""

import logging
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from maskrcnn_lib.config.architecture import class_section, num_classes
from maskrcnn_lib.config.validation import keys_not_followed
from maskrcnn_lib.data.datasets import check_num_classes
from maskrcnn_lib.data.datasets.build import class_count
from maskrcnn_lib.data.datasets.image_files import check_images
from maskrcnn_lib.evaluation.categories import match_categories
from maskrcnn_lib.evaluation.expected import ExpectedScore, read_expected_results
from maskrcnn_lib.solver.plan import check_schedule, plan_schedule
from maskrcnn_lib.structures.keypoint import PersonKeypoints, Skeleton

logger = logging.getLogger(__name__)


def check_output(output: Path, *, resume: bool) -> None:
    """Raises ValueError where a new training would overwrite an old one."""
    if not resume and (output / "last_checkpoint").is_file():
        raise ValueError(
            f"{output} holds a training already: --resume goes on with it; for a new one name "
            "another OUTPUT_DIR, or delete last_checkpoint there"
        )


def plan_run(cfg: Any, dataset: Any, given: Collection[str]) -> Any:
    """The config with the classes of the data and the schedule of the run; says what it changed."""
    cfg = cfg.clone()
    cfg.defrost()
    expected_scores(cfg)  # complains now, not after the training
    count, section = class_count(dataset), class_section(cfg)
    key = f"MODEL.{section}.NUM_CLASSES"
    if count is not None and "DATASETS.TRAIN" in given and key not in given:
        if cfg.MODEL[section].NUM_CLASSES != count:
            logger.info("%s is %d, as the training data have it", key, count)
        cfg.MODEL[section].NUM_CLASSES = count
    if "DATASETS.TRAIN" in given and "MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES" not in given:
        _take_skeleton(cfg, getattr(dataset, "skeleton", None))
    check_num_classes(cfg, dataset)
    plan = plan_schedule(cfg, len(dataset), given=given)
    for note in plan.notes:
        logger.info("%s", note)
    for warning in check_schedule(plan.cfg):
        logger.warning("%s", warning)
    for key in keys_not_followed(plan.cfg):
        logger.warning("%s is set, but this version does not follow it", key)
    plan.cfg.freeze()
    return plan.cfg


def _take_skeleton(cfg: Any, skeleton: Skeleton | None) -> None:
    """Sets number, names and connections of the keypoints as the training data have them."""
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    if not cfg.MODEL.KEYPOINT_ON or skeleton is None or skeleton.names == PersonKeypoints.NAMES:
        return
    logger.info("the keypoints are those of the training data: %s", ", ".join(skeleton.names))
    head.NUM_CLASSES = len(skeleton.names)
    head.NAMES = list(skeleton.names)
    head.CONNECTIONS = [list(pair) for pair in skeleton.connections]


def class_names(dataset: Any, cfg: Any) -> tuple[str, ...]:
    """Name per label, the background first; numbers where the data set names no classes."""
    names = list(getattr(dataset, "categories", {}).values())
    count = num_classes(cfg)
    return ("__background", *(names or [f"class {label}" for label in range(1, count)]))


def check_test_classes(names: Sequence[str], tests: Mapping[str, Any]) -> None:
    """Looks for classes that would be measured and cannot be found, perhaps because misspelt.

    Args:
        names: the model's classes, the background first.
        tests: data sets by name.

    Raises:
        ValueError: a data set shares no class with the model.
    """
    for name, dataset in tests.items():
        categories = getattr(dataset, "categories", None)
        if not categories:
            continue
        match_categories(names, categories)
        lacking = [category for category in categories.values() if category not in names]
        if len(lacking) == len(categories):  # the same classes in another language, in order
            continue
        for category in lacking:
            near = get_close_matches(category, names, n=1)
            hint = f"; is it the training data's {near[0]!r}?" if near else ""
            logger.warning(
                "%s has the class %r, which the model does not learn%s", name, category, hint
            )


def expected_scores(cfg: Any) -> list[ExpectedScore]:
    """``TEST.EXPECTED_RESULTS``; raises ValueError where it cannot be read."""
    return read_expected_results(cfg.TEST.EXPECTED_RESULTS, cfg.TEST.EXPECTED_RESULTS_SIGMA_TOL)


def check_all_images(cfg: Any, dataset: Any, tests: Mapping[str, Any]) -> None:
    """Finds missing images before the training, not in its middle or after it."""
    for name, test in tests.items():
        check_images(test, name)
    try:
        check_images(dataset, "the training data")
    except FileNotFoundError as error:
        if cfg.DATALOADER.ON_BAD_IMAGE != "skip":
            hint = "; DATALOADER.ON_BAD_IMAGE skip takes others in their place"
            raise FileNotFoundError(f"{error}{hint}") from error
        logger.warning("%s; others are taken in their place", error)
