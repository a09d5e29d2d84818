"""``maskrcnn test``: measures a model's average precision on data sets.

Several processes share the images with `--num-gpus N`, or under torchrun; several machines that do
not know of each other take a `--range` each, and `maskrcnn eval` puts their results together.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn_lib.tools.argument_types import count
from maskrcnn_lib.tools.model_options import add_model_arguments

if TYPE_CHECKING:
    from maskrcnn_lib.engine.inference import Detector
    from maskrcnn_lib.engine.testing import DatasetResults
    from maskrcnn_lib.evaluation.expected import ExpectedScore
    from maskrcnn_lib.evaluation.scores import Scores

_MODULE = "maskrcnn_lib.tools.test_net"
_KINDS = ("bbox", "segm", "keypoints")


@dataclass(frozen=True)
class Wishes:
    """What becomes of the results.

    Attributes:
        kinds: of ``bbox``, ``segm`` and ``keypoints``, to be scored and written; all if empty.
        show_dir: directory for pictures of what was annotated beside what was found, or None.
        show_score: detections of at least this score are drawn.
        images: first image of each data set, and the one after the last: what is found on these is
            written, but not scored (see :mod:`maskrcnn_lib.engine.parts`); None for all images.
        backend, sigmas: see :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.
    """

    kinds: Sequence[str] = ()
    show_dir: str | Path | None = None
    show_score: float = 0.5
    images: tuple[int, int] | None = None
    backend: str = "auto"
    sigmas: Sequence[float] = ()


def measure(
    config: str | Path | None = None,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    output: str | Path | None = None,
    wishes: Wishes = Wishes(),
    batch_size: int = 1,
    overrides: Sequence[Any] = (),
    progress: bool = True,
) -> dict[str, dict[str, "Scores"]]:
    """Runs a model over data sets and scores what it finds.

    Under torchrun, all processes share the images, and the first one scores and prints.

    Args:
        config: config name or file.
        model: name of a published model, instead of ``config``; its trained weights are taken.
        weights: path, catalog name or URL; by default those of ``model``, or the config's
            ``MODEL.WEIGHT``.
        annotations, images: a COCO JSON file and the directory of its images; by default the data
            sets named in ``DATASETS.TEST``.
        output: directory; by default ``OUTPUT_DIR/inference``. Per data set a sub-directory gets
            the files of :func:`maskrcnn_lib.engine.measuring.score_and_write`; the resolved config
            is written beside them.
        wishes: what becomes of the results.
        batch_size: images per forward pass.
        overrides: config keys and values, alternating.

    Returns:
        Per data set name, per kind of result (``bbox``, ``segm``, ``keypoints``,
        ``box_proposal``) the scores; of a range of images, and on other ranks than the first,
        nothing.

    Raises:
        UnexpectedResultsError: (a ValueError) scores are not those of ``TEST.EXPECTED_RESULTS``;
            raised when all is measured and written.
        ValueError: only one of ``annotations`` and ``images`` is given, or no data set at all;
            neither a config nor a model is named; the model gives no such kind of result.
        FileNotFoundError: a file that is needed does not exist.
        KeyboardInterrupt: Ctrl-C; what was found until then is written like a range of images.
    """
    from maskrcnn_lib.engine.inference import build_detector, choose_model
    from maskrcnn_lib.engine.processes import joined_processes
    from maskrcnn_lib.evaluation.expected import read_expected_results
    from maskrcnn_lib.utils.miscellaneous import save_config

    if config is None and model is None:
        raise ValueError("no model: give --model or --config-file")
    cfg, weights = choose_model(model=model, config=config, weights=weights, overrides=overrides)
    _check_wishes(cfg, wishes)
    test = cfg.TEST
    expected = read_expected_results(test.EXPECTED_RESULTS, test.EXPECTED_RESULTS_SIGMA_TOL)
    target = Path(output) if output is not None else Path(cfg.OUTPUT_DIR) / "inference"
    wishes = replace(wishes, sigmas=wishes.sigmas or tuple(test.KEYPOINT_OKS_SIGMAS))
    with joined_processes(cfg.MODEL.DEVICE):
        datasets = _datasets(cfg, annotations, images)
        detector = build_detector(cfg, weights, allow_proposals=True)
        options = {"batch_size": batch_size, "progress": progress}
        measured = _measure_all(detector, datasets, target, wishes, options)
        save_config(cfg, target / "config.yaml")
    if wishes.images is None:
        _verify(measured, expected)
    return measured


def _check_wishes(cfg: Any, wishes: Wishes) -> None:
    """Finds out before the work whether the model gives what is asked for."""
    from maskrcnn_lib.config.architecture import only_proposes

    if only_proposes(cfg) and (wishes.kinds or wishes.show_dir or wishes.images):
        raise ValueError(
            "--eval, --show-dir and --range are for detections, but this model only proposes"
        )
    gives = {"segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    missing = [kind for kind in wishes.kinds if not gives.get(kind, True)]
    if missing:
        raise ValueError(f"--eval: this model gives no {' and no '.join(missing)}")


def _measure_all(
    detector: "Detector",
    datasets: Mapping[str, Any],
    target: Path,
    wishes: Wishes,
    options: Mapping[str, Any],
) -> dict[str, dict[str, "Scores"]]:
    from maskrcnn_lib.engine.measuring import find_on_dataset, score_and_write, write_part
    from maskrcnn_lib.engine.parts import check_range
    from maskrcnn_lib.engine.testing import InterruptedRun

    measured = {}
    for name, dataset in datasets.items():
        images = check_range(*(wishes.images or (0, len(dataset))), len(dataset))
        try:
            results = find_on_dataset(detector, name, dataset, images=images, **options)
        except InterruptedRun as part:
            _choose(part.results, wishes.kinds)
            folder = write_part(dataset, part.results, part.images, target / name)
            raise KeyboardInterrupt(
                f"what was found on the images {part.images.start} to {part.images.stop} is in "
                f"{folder}; --range {part.images.stop} {images.stop} goes on, and `maskrcnn eval "
                f"{target / name}` then scores the whole"
            ) from None
        if results is None:
            continue
        _choose(results, wishes.kinds)
        if wishes.images is not None:
            folder = write_part(dataset, results, images, target / name)
            print(f"{name}: images {images.start} to {images.stop}, written to {folder}")
        else:
            scoring = {"backend": wishes.backend, "sigmas": wishes.sigmas}
            measured[name], report = score_and_write(
                name, dataset, results, target / name, **scoring
            )
            print(report)
        if wishes.show_dir is not None:
            folder = Path(wishes.show_dir) / (name if len(datasets) > 1 else "")
            _show(name, dataset, results, images, folder, wishes.show_score)
    return measured


def _choose(results: "DatasetResults", kinds: Sequence[str]) -> None:
    """Leaves only the kinds that are asked for, if any are."""
    if kinds:
        results.by_kind = {kind: results.by_kind[kind] for kind in kinds}


def _show(
    name: str,
    dataset: Any,
    results: "DatasetResults",
    images: range,
    folder: Path,
    threshold: float,
) -> None:
    from maskrcnn_lib.report.collect import Run
    from maskrcnn_lib.tools.show_results import show_results

    run = Run(name, results.by_kind, dataset, has_images=True)
    drawn = show_results(run, folder, threshold=threshold, images=images)
    print(f"{len(drawn)} pictures in {folder}")


def _verify(
    measured: Mapping[str, Mapping[str, "Scores"]], expected: Sequence["ExpectedScore"]
) -> None:
    from maskrcnn_lib.evaluation.expected import UnexpectedResultsError, check_expected_results
    from maskrcnn_lib.evaluation.scores import flat_scores

    numbers: dict[str, float] = {}
    for name, scores in measured.items():
        numbers |= flat_scores(name, scores)
    failures = check_expected_results(numbers, expected, measured)
    if failures:
        raise UnexpectedResultsError(
            "scores are not as TEST.EXPECTED_RESULTS says:\n  " + "\n  ".join(failures)
        )


def _datasets(
    cfg: Any, annotations: str | Path | None, images: str | Path | None
) -> dict[str, Any]:
    from maskrcnn_lib.data.datasets import COCODataset
    from maskrcnn_lib.data.datasets.build import build_test_datasets

    if (annotations is None) != (images is None):
        raise ValueError("--test-json and --test-images are needed together")
    if annotations is not None and cfg.MODEL.LOAD_PROPOSALS:
        raise ValueError(
            "MODEL.LOAD_PROPOSALS needs a file of proposals for each data set by name: instead of "
            f"--test-json give DATASETS.TEST '(\"coco:{annotations}:{images}\",)' and "
            "DATASETS.PROPOSAL_FILES_TEST"
        )
    if annotations is not None:
        return {Path(annotations).stem: COCODataset(annotations, images)}
    if not cfg.DATASETS.TEST:
        raise ValueError("no data set: give --test-json and --test-images, or set DATASETS.TEST")
    return build_test_datasets(cfg)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    add_model_arguments(parser, required=True)
    parser.add_argument(
        "--test-json", metavar="J", help="COCO annotation file; default: DATASETS.TEST"
    )
    parser.add_argument("--test-images", metavar="DIR", help="directory of its images")
    parser.add_argument("--output", metavar="DIR", help="default: OUTPUT_DIR/inference")
    parser.add_argument(
        "--eval", nargs="+", metavar="KIND", choices=_KINDS, help="of bbox, segm, keypoints"
    )
    parser.add_argument(
        "--show-dir", metavar="DIR", help="draw what was annotated beside what was found"
    )
    parser.add_argument(
        "--show-score-thr",
        type=float,
        default=0.5,
        metavar="S",
        help="draw detections of at least this score; default: 0.5",
    )
    parser.add_argument(
        "--range",
        nargs=2,
        type=int,
        metavar=("START", "END"),
        help="only write what is found on the images START to END - 1 of each data set",
    )
    parser.add_argument(
        "--num-gpus", type=count, metavar="N", help="share the images out to N processes"
    )
    parser.add_argument(
        "--backend",
        default="auto",
        help="what computes the scores: maskrcnn_lib, pycocotools, hotcoco, faster-coco-eval",
    )
    parser.add_argument("--batch-size", type=count, default=1, metavar="N", help="default: 1")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0, the command line 1 where results are not as expected."""
    from maskrcnn_lib.tools.launch import command_line, is_launched, launch

    if (args.num_gpus or 1) > 1 and not is_launched():
        _check_processes(args)
        return launch(_MODULE, command_line(args), args.num_gpus)
    wishes = Wishes(
        kinds=args.eval or (),
        show_dir=args.show_dir,
        show_score=args.show_score_thr,
        images=tuple(args.range) if args.range else None,
        backend=args.backend,
    )
    measure(
        args.config_file,
        model=args.model,
        weights=args.weights,
        annotations=args.test_json,
        images=args.test_images,
        output=args.output,
        wishes=wishes,
        batch_size=args.batch_size,
        overrides=args.opts,
    )
    return 0


def _check_processes(args: argparse.Namespace) -> None:
    from maskrcnn_lib.engine.inference import choose_model
    from maskrcnn_lib.tools.launch import check_processes

    cfg, _ = choose_model(
        model=args.model, config=args.config_file, weights=args.weights, overrides=args.opts
    )
    check_processes(args.num_gpus, cfg.MODEL.DEVICE)


if __name__ == "__main__":
    from maskrcnn_lib.tools.cli import main

    sys.exit(main(["test", *sys.argv[1:]]))
