"""Which model a command runs, and from which score on it shows detections."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_lib.tools.argument_types import probability


def add_architecture_arguments(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Adds ``--model`` and ``--config-file`` to ``parser``, of which one can be given.

    Args:
        required: one of them must be given.
    """
    model = parser.add_mutually_exclusive_group(required=required)
    model.add_argument(
        "--model", metavar="NAME", help="published model; `maskrcnn models` lists them"
    )
    model.add_argument("--config-file", metavar="F", help="YAML config file or name")


def add_model_arguments(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Adds ``--weights`` to the arguments of ``add_architecture_arguments``."""
    add_architecture_arguments(parser, required=required)
    parser.add_argument("--weights", metavar="W", help="path, catalog name or URL")


def add_confidence_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--confidence``, for :func:`least_score`."""
    parser.add_argument(
        "--confidence",
        "--threshold",
        type=probability,
        metavar="P",
        help="least score; default: 0.7, with the packaged model 0.35",
    )


def published_model(
    model: str | None,
    config: str | Path | None,
    weights: str | Path | None,
    overrides: Sequence[Any],
) -> str | None:
    """Name of the published model that is taken with its own weights; None for other weights."""
    from maskrcnn_lib.engine.inference import default_model

    if config is not None or weights is not None or "MODEL.WEIGHT" in overrides:
        return None
    return model or default_model()


def least_score(confidence: float | None, published: str | None) -> float:
    """Score from which detections are shown: as asked for, else what is usual with the model.

    Raises:
        ValueError: a confidence outside 0..1.
    """
    from maskrcnn_lib.engine.inference import usual_confidence

    if confidence is None:
        return usual_confidence(published)
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must lie within 0 and 1, but is {confidence}")
    return confidence
