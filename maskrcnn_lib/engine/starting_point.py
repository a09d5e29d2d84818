"""Where a training begins: at the checkpoint that it goes on from, else at the initial weights."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from maskrcnn_lib.checkpoint import DetectronCheckpointer, load_weights
from maskrcnn_lib.checkpoint.download import resolve_weights
from maskrcnn_lib.config.files import load_yaml
from maskrcnn_lib.config.paths_catalog import load_model_catalog
from maskrcnn_lib.engine.processes import local_rank
from maskrcnn_lib.utils.comm import synchronize

logger = logging.getLogger(__name__)


def load_starting_point(
    cfg: Any, model: nn.Module, checkpointer: DetectronCheckpointer
) -> dict[str, Any]:
    """Loads the state to go on from, else the initial weights of ``MODEL.WEIGHT``.

    Args:
        model: of the checkpointer.
        checkpointer: holds all that a training goes on with.

    Returns:
        The arguments of the loop, ``iteration`` among them: 0 for a new training.

    Raises:
        ValueError: the newest checkpoint does not fit the model.
    """
    output = cfg.OUTPUT_DIR
    if checkpointer.has_checkpoint():
        _log_changes(Path(output) / "config.yaml", cfg)
        settings = [_settings(group) for group in checkpointer.optimizer.param_groups]
        arguments = checkpointer.load()
        for group, setting in zip(checkpointer.optimizer.param_groups, settings, strict=True):
            group.update(setting)  # of this config, not of the one before
        if "iteration" not in arguments:
            raise ValueError(
                f"the checkpoint in {output} is of another model and cannot be gone on with:\n"
                f"{checkpointer.report}"
            )
        logger.info("going on after iteration %d", arguments["iteration"])
        return arguments
    if cfg.MODEL.WEIGHT:
        report = load_weights(model, _fetched(cfg), class_names=checkpointer.class_names)
        if report.dialect not in (None, cfg.MODEL.DIALECT):
            logger.warning(
                "the weights come from a training under the conventions of %s, but MODEL.DIALECT "
                "is %s",
                report.dialect,
                cfg.MODEL.DIALECT,
            )
        if checkpointer.average is not None:
            checkpointer.average.load_weights(model.state_dict())
    return {"iteration": 0}


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: group[key] for key in ("weight_decay", "momentum", "betas") if key in group}


def _fetched(cfg: Any) -> Path:
    """The file of the initial weights; one process of each machine downloads it."""
    catalog = load_model_catalog(cfg.PATHS_CATALOG)
    if local_rank() == 0:
        path = resolve_weights(cfg.MODEL.WEIGHT, catalog=catalog)
        synchronize()
        return path
    synchronize()
    return resolve_weights(cfg.MODEL.WEIGHT, catalog=catalog)


def _log_changes(path: Path, cfg: Any) -> None:
    """Says in which keys a run goes on with another config than it began with."""
    if not path.is_file():
        return
    before, now = (_plain(node.flat()) for node in (type(cfg)(load_yaml(path)), cfg))
    for key in now:
        if key in before and before[key] != now[key]:
            logger.warning("%s is %s now; it was %s before", key, now[key], before[key])


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """YAML knows no tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
