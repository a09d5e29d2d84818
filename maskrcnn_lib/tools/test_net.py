"""``maskrcnn test``: measures a model's average precision on data sets."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskrcnn_lib.engine.inference import Detector
    from maskrcnn_lib.evaluation.expected import ExpectedScore
    from maskrcnn_lib.evaluation.scores import Scores


def measure(
    config: str | Path | None = None,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    output: str | Path | None = None,
    backend: str = "auto",
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
        backend: what computes the scores, see
            :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.
        batch_size: images per forward pass.
        overrides: config keys and values, alternating.

    Returns:
        Per data set name, per kind of result (``bbox``, ``segm``, ``keypoints``,
        ``box_proposal``) the scores; on other ranks than the first nothing.

    Raises:
        UnexpectedResultsError: (a ValueError) scores are not those of ``TEST.EXPECTED_RESULTS``;
            raised when all is measured and written.
        ValueError: only one of ``annotations`` and ``images`` is given, or no data set at all;
            neither a config nor a model is named.
        FileNotFoundError: a file that is needed does not exist.
    """
    from maskrcnn_lib.engine.inference import build_detector, choose_model
    from maskrcnn_lib.engine.processes import joined_processes
    from maskrcnn_lib.evaluation.expected import read_expected_results
    from maskrcnn_lib.utils.miscellaneous import save_config

    if config is None and model is None:
        raise ValueError("no model: give --model or --config-file")
    cfg, weights = choose_model(model=model, config=config, weights=weights, overrides=overrides)
    test = cfg.TEST
    expected = read_expected_results(test.EXPECTED_RESULTS, test.EXPECTED_RESULTS_SIGMA_TOL)
    target = Path(output) if output is not None else Path(cfg.OUTPUT_DIR) / "inference"
    options = {"backend": backend, "batch_size": batch_size, "progress": progress}
    options["sigmas"] = test.KEYPOINT_OKS_SIGMAS
    with joined_processes(cfg.MODEL.DEVICE):
        datasets = _datasets(cfg, annotations, images)
        detector = build_detector(cfg, weights, allow_proposals=True)
        measured = _measure_all(detector, datasets, target, options)
        save_config(cfg, target / "config.yaml")
    _verify(measured, expected)
    return measured


def _measure_all(
    detector: "Detector", datasets: Mapping[str, Any], target: Path, options: Mapping[str, Any]
) -> dict[str, dict[str, "Scores"]]:
    from maskrcnn_lib.engine.measuring import measure_dataset

    measured = {}
    for name, dataset in datasets.items():
        outcome = measure_dataset(detector, name, dataset, target / name, **options)
        if outcome is not None:
            measured[name], report = outcome
            print(report)
    return measured


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
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--model", metavar="NAME", help="published model; `maskrcnn models` lists them"
    )
    model.add_argument("--config-file", metavar="F", help="YAML config file or name")
    parser.add_argument("--weights", metavar="W", help="path, catalog name or URL")
    parser.add_argument(
        "--test-json", metavar="J", help="COCO annotation file; default: DATASETS.TEST"
    )
    parser.add_argument("--test-images", metavar="DIR", help="directory of its images")
    parser.add_argument("--output", metavar="DIR", help="default: OUTPUT_DIR/inference")
    parser.add_argument(
        "--backend",
        default="auto",
        help="what computes the scores: maskrcnn_lib, pycocotools, hotcoco, faster-coco-eval",
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="default: 1")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0, the command line 1 where results are not as expected."""
    measure(
        args.config_file,
        model=args.model,
        weights=args.weights,
        annotations=args.test_json,
        images=args.test_images,
        output=args.output,
        backend=args.backend,
        batch_size=args.batch_size,
        overrides=args.opts,
    )
    return 0
