"""From a config to a trained model: puts data, model, solver and loop together."""

import logging
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from maskrcnn_lib.checkpoint import DetectronCheckpointer
from maskrcnn_lib.config.architecture import only_proposes
from maskrcnn_lib.data.build import make_data_loader
from maskrcnn_lib.data.datasets import build_train_dataset
from maskrcnn_lib.data.datasets.build import build_test_datasets
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.inference import DTYPES, make_detector
from maskrcnn_lib.engine.measuring import measure_dataset
from maskrcnn_lib.engine.pictures import draw_data, draw_outcome
from maskrcnn_lib.engine.preflight import (
    check_all_images,
    check_output,
    check_test_classes,
    class_names,
    expected_scores,
    plan_run,
)
from maskrcnn_lib.engine.starting_point import load_starting_point
from maskrcnn_lib.engine.trainer import Evaluate, do_train, seed_generators
from maskrcnn_lib.engine.training_graphs import graph_backbone
from maskrcnn_lib.evaluation.expected import check_expected_results
from maskrcnn_lib.evaluation.scores import flat_scores
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.solver import make_lr_scheduler, make_optimizer
from maskrcnn_lib.solver.weight_average import WeightAverage
from maskrcnn_lib.utils.comm import get_world_size, is_main_process, synchronize
from maskrcnn_lib.utils.miscellaneous import save_config, save_labels

logger = logging.getLogger(__name__)


def run_training(
    cfg: Any,
    *,
    device: torch.device,
    given: Collection[str] = (),
    resume: bool = False,
    evaluates: bool = True,
    build: Callable[[Any], nn.Module] = build_detection_model,
) -> dict[str, float]:
    """Trains the model of a config on its data and leaves everything in ``OUTPUT_DIR``.

    Args:
        cfg: resolved configuration; it is not changed.
        device: of this process.
        given: full keys that were set by hand for this very run. Their values are not scaled to
            the batch; and where the training data are among them, but not ``NUM_CLASSES``, the
            classes are counted in the data.
        resume: go on from ``last_checkpoint`` of ``OUTPUT_DIR``, where there is one.
        evaluates: whether ``DATASETS.TEST`` is evaluated, during the run and at its end.
        build: makes the model of a config; another than the library's may put something around it
            that learns more, such as ``modeling.distillation``'s.

    Returns:
        The last evaluation's numbers, on the first rank.

    Raises:
        ValueError: the config, the data or the schedule cannot be used as they are; or the
            directory holds a training that ``resume`` would continue.
    """
    output = Path(cfg.OUTPUT_DIR)
    check_output(output, resume=resume)
    dataset = build_train_dataset(cfg, check_classes=False)
    cfg = plan_run(cfg, dataset, given)
    checkpoint_names = class_names(dataset, cfg)
    tests = build_test_datasets(cfg) if evaluates else {}
    if not only_proposes(cfg):
        check_test_classes(checkpoint_names, tests)
    check_all_images(cfg, dataset, tests)
    _make_deterministic(cfg)
    seed_generators(cfg.SEED)
    model = build(cfg)
    checkpointer, wrapped = _prepare(cfg, model, device, checkpoint_names)
    arguments = load_starting_point(cfg, model, checkpointer)
    if is_main_process():
        _describe_run(cfg, dataset, checkpoint_names, is_new=arguments["iteration"] == 0)
    synchronize()
    evaluate = make_evaluation(cfg, tests, checkpoint_names, device) if tests else None
    scores = _train(cfg, wrapped, checkpointer, dataset, device, arguments, evaluate)
    if is_main_process():
        average = checkpointer.average
        evaluated = average.model if average else model
        detector = make_detector(cfg, evaluated, device=device, class_names=checkpoint_names)
        _conclude(cfg, detector, tests, scores)
    return scores


def _describe_run(cfg: Any, dataset: Any, names: Sequence[str], *, is_new: bool) -> None:
    """Leaves config and labels in the output directory, and for a new run pictures of the data."""
    output = Path(cfg.OUTPUT_DIR)
    output.mkdir(parents=True, exist_ok=True)
    save_config(cfg, output / "config.yaml")
    save_labels([dataset], output)
    if is_new:
        draw_data(cfg, dataset, names, output)


def _train(
    cfg: Any,
    model: nn.Module,
    checkpointer: DetectronCheckpointer,
    dataset: Any,
    device: torch.device,
    arguments: dict[str, Any],
    evaluate: Evaluate | None,
) -> dict[str, float]:
    """The loop with the config's numbers; see :func:`do_train`."""
    solver = cfg.SOLVER
    return do_train(
        model,
        make_data_loader(cfg, True, get_world_size() > 1, arguments["iteration"], dataset=dataset),
        checkpointer.optimizer,
        checkpointer.scheduler,
        checkpointer,
        device,
        solver.CHECKPOINT_PERIOD,
        arguments,
        test_period=solver.TEST_PERIOD,
        log_period=solver.LOG_PERIOD,
        evaluate=evaluate,
        dtype=DTYPES[cfg.DTYPE],
        accumulate=solver.ACCUMULATE,
        clip_gradients=solver.CLIP_GRADIENTS,
        seed=cfg.SEED,
    )


def _conclude(
    cfg: Any, detector: Detector, tests: Mapping[str, Any], scores: Mapping[str, float]
) -> None:
    """Draws how the run went and what it leads to, and compares its scores with those expected."""
    shown = None if detector.only_proposes else next(iter(tests.values()), None)
    draw_outcome(detector, shown, cfg.OUTPUT_DIR)
    if tests:
        check_expected_results(scores, expected_scores(cfg), tests)


def _make_deterministic(cfg: Any) -> None:
    if cfg.DETERMINISTIC:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def _prepare(
    cfg: Any, model: nn.Module, device: torch.device, names: Sequence[str]
) -> tuple[DetectronCheckpointer, nn.Module]:
    """Model on its device, with optimizer, schedule, and whatever else a checkpoint holds.

    Returns:
        The checkpointer with all of them, and the model as the loop calls it.
    """
    model.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(cfg, model)
    decay = cfg.SOLVER.EMA_DECAY
    checkpointer = DetectronCheckpointer(
        cfg,
        model,
        optimizer,
        make_lr_scheduler(cfg, optimizer),
        cfg.OUTPUT_DIR,
        class_names=names,
        scaler=torch.amp.GradScaler(device.type) if cfg.DTYPE == "float16" else None,
        average=WeightAverage(model, decay) if decay else None,
        keep=cfg.SOLVER.KEEP_CHECKPOINTS,
    )
    if cfg.MODEL.COMPILE:
        model.backbone.compile(dynamic=True)
    if cfg.MODEL.CUDA_GRAPHS and device.type == "cuda" and cfg.SOLVER.ACCUMULATE == 1:
        graph_backbone(model.backbone)
    if get_world_size() == 1:
        return checkpointer, model
    # of 1x1 convolutions, for which both memory formats are one and strides may be either's
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # newer versions have another name for it, which the oldest one that is supported has not
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
    wrapped = DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )
    return checkpointer, wrapped


def make_evaluation(
    cfg: Any, tests: Mapping[str, Any], names: Sequence[str], device: torch.device
) -> Evaluate:
    """A function that measures a model on all test sets and logs the tables.

    Args:
        tests: data sets by name; their files go to ``OUTPUT_DIR/inference/<name>``.
        names: the model's classes, the background first.
    """

    def evaluate(model: nn.Module) -> dict[str, float]:
        detector = make_detector(cfg, model, device=device, class_names=names)
        numbers: dict[str, float] = {}
        for name, dataset in tests.items():
            target = Path(cfg.OUTPUT_DIR) / "inference" / name
            outcome = measure_dataset(
                detector,
                name,
                dataset,
                target,
                sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
                progress=False,
            )
            if outcome is not None:
                scores, report = outcome
                logger.info("evaluation:\n%s", report)
                numbers |= flat_scores(name, scores)
        return numbers

    return evaluate
