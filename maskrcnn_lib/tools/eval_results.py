"""``maskrcnn eval``: scores results that a model, or another toolbox, wrote before."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from maskrcnn_lib.tools.result_sources import add_source_arguments, open_run

if TYPE_CHECKING:
    from maskrcnn_lib.evaluation.scores import Scores
    from maskrcnn_lib.report.collect import Run


def evaluate_results(
    run: "Run",
    *,
    kinds: Collection[str] = (),
    output: str | Path | None = None,
    backend: str = "auto",
) -> tuple[dict[str, "Scores"], str]:
    """Scores the results of a run by the rules of its data set.

    Args:
        run: see :func:`maskrcnn_lib.report.collect.collect`.
        kinds: of ``bbox``, ``segm`` and ``keypoints``; by default all that there are.
        output: directory for the files of
            :func:`maskrcnn_lib.engine.measuring.score_and_write`.
        backend: see :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.

    Returns:
        Scores per kind, and a readable report.

    Raises:
        ValueError: there are no results of a kind that is asked for, or they do not fit the data
            set.
    """
    from maskrcnn_lib.engine.measuring import score_and_write
    from maskrcnn_lib.engine.testing import DatasetResults

    missing = [kind for kind in kinds if kind not in run.results]
    if missing or not run.results:
        there = ", ".join(run.results) or "none"
        raise ValueError(f"no {', '.join(missing)} results in {run.name}; there are: {there}")
    chosen = {kind: found for kind, found in run.results.items() if not kinds or kind in kinds}
    results = DatasetResults(by_kind=chosen, images=len(run.dataset))
    return score_and_write(
        run.name, run.dataset, results, output, backend=backend, sigmas=run.sigmas
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    add_source_arguments(parser)
    parser.add_argument(
        "--eval",
        nargs="+",
        default=(),
        choices=("bbox", "segm", "keypoints"),
        help="kinds of result; default: all that there are",
    )
    parser.add_argument("--output", metavar="DIR", help="write scores and results there, too")
    parser.add_argument(
        "--backend",
        default="auto",
        help="what computes the scores: maskrcnn_lib, pycocotools, hotcoco, faster-coco-eval",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    _, report = evaluate_results(
        open_run(args), kinds=args.eval, output=args.output, backend=args.backend
    )
    print(report)
    return 0
