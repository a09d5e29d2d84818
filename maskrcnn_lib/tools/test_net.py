"""``maskrcnn test``: measures a model's average precision on data sets in COCO's format."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskrcnn_lib.evaluation.coco_eval import COCOScores


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
) -> dict[str, dict[str, "COCOScores"]]:
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
            ``bbox.json`` and ``segm.json`` (COCO results), ``coco_results.json`` (the scores) and
            ``per_class.csv``; the resolved config is written beside them.
        backend: package that computes the scores, see
            :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.
        batch_size: images per forward pass.
        overrides: config keys and values, alternating.

    Returns:
        Per data set name, per kind of result (``bbox``, ``segm``) the scores; on other ranks than
        the first nothing.

    Raises:
        ValueError: only one of ``annotations`` and ``images`` is given, or no data set at all;
            neither a config nor a model is named.
        FileNotFoundError: a file that is needed does not exist.
    """
    from maskrcnn_lib.engine.inference import build_detector, choose_model
    from maskrcnn_lib.engine.measuring import measure_dataset
    from maskrcnn_lib.engine.processes import joined_processes
    from maskrcnn_lib.utils.miscellaneous import save_config

    if config is None and model is None:
        raise ValueError("no model: give --model or --config-file")
    cfg, weights = choose_model(model=model, config=config, weights=weights, overrides=overrides)
    target = Path(output) if output is not None else Path(cfg.OUTPUT_DIR) / "inference"
    measured = {}
    with joined_processes(cfg.MODEL.DEVICE):
        datasets = _datasets(cfg, annotations, images)
        detector = build_detector(cfg, weights)
        for name, dataset in datasets.items():
            outcome = measure_dataset(
                detector,
                name,
                dataset,
                target / name,
                backend=backend,
                batch_size=batch_size,
                progress=progress,
            )
            if outcome is not None:
                measured[name], report = outcome
                print(report)
        save_config(cfg, target / "config.yaml")
    return measured


def _datasets(
    cfg: Any, annotations: str | Path | None, images: str | Path | None
) -> dict[str, Any]:
    from maskrcnn_lib.data.datasets import COCODataset
    from maskrcnn_lib.data.datasets.build import build_test_datasets

    if (annotations is None) != (images is None):
        raise ValueError("--test-json and --test-images are needed together")
    if annotations is not None:
        return {Path(annotations).stem: COCODataset(annotations, images)}
    if not cfg.DATASETS.TEST:
        raise ValueError("no data set: give --test-json and --test-images, or set DATASETS.TEST")
    return build_test_datasets(cfg)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="NAME", help="published model, see MODEL_ZOO.md")
    model.add_argument("--config-file", metavar="F", help="YAML config file or name")
    parser.add_argument("--weights", metavar="W", help="path, catalog name or URL")
    parser.add_argument("--test-json", metavar="J", help="COCO annotation file")
    parser.add_argument("--test-images", metavar="DIR", help="directory of its images")
    parser.add_argument("--output", metavar="DIR", help="default: OUTPUT_DIR/inference")
    parser.add_argument("--backend", default="auto", help="pycocotools, hotcoco, faster-coco-eval")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="default: 1")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0."""
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
