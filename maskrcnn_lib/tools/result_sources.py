"""How the commands that read results are told where these and their data set are."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskrcnn_lib.report.collect import Run


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that :func:`open_run` reads."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="RESULTS",
        help="COCO results files of different kinds or images; or a directory that `maskrcnn test` "
        "or a training wrote; or the directories of `maskrcnn test --range`",
    )
    parser.add_argument(
        "--test-json",
        metavar="J",
        help="COCO annotation file; default: what the results were scored with",
    )
    parser.add_argument("--test-images", metavar="DIR", help="directory of its images")
    parser.add_argument(
        "--config-file", metavar="F", help="YAML config file or name whose DATASETS.TEST to take"
    )
    parser.add_argument(
        "--dataset", default="", metavar="NAME", help="which one, where there are several"
    )


def open_run(args: argparse.Namespace) -> "Run":
    """Reads the results and opens the data set that the arguments name.

    Raises:
        FileNotFoundError, ValueError: see :func:`maskrcnn_lib.report.collect.collect`.
    """
    from maskrcnn_lib.report.collect import collect

    return collect(
        args.source,
        annotations=args.test_json,
        images=args.test_images,
        config=args.config_file,
        overrides=args.opts,
        dataset=args.dataset,
    )
