"""Saving during training and resuming from it, with maskrcnn-benchmark's interface.

Next to the checkpoints a text file ``last_checkpoint`` names the newest one.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from maskrcnn_lib.checkpoint import native
from maskrcnn_lib.checkpoint.download import resolve_weights
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.loading import load_content
from maskrcnn_lib.checkpoint.report import LoadReport
from maskrcnn_lib.utils.comm import is_main_process

_LAST = "last_checkpoint"
_RESUMED = ("optimizer", "scheduler")


class Stateful(Protocol):
    """Anything whose state can be saved: optimizers and learning-rate schedules."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> object: ...


class _Config(Protocol):
    def dump(self) -> str: ...


class Checkpointer:
    """Saves a model with the state of its training, and loads any known format.

    Args:
        model: the module to save and to load into.
        optimizer: saved and restored with it.
        scheduler: saved and restored with it.
        save_dir: folder of the checkpoints; without one nothing is saved.
        save_to_disk: whether this process saves; by default the main process does.
        logger: where to report; by default this module's.
        class_names: one name per label, the background first, stored in every checkpoint.

    Attributes:
        report: what the last ``load`` did; None before.
    """

    config_text = ""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Stateful | None = None,
        scheduler: Stateful | None = None,
        save_dir: str | Path = "",
        save_to_disk: bool | None = None,
        logger: logging.Logger | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.save_dir = str(save_dir)
        self.save_to_disk = is_main_process() if save_to_disk is None else save_to_disk
        self.logger = logger or logging.getLogger(__name__)
        self.class_names = class_names
        self.report: LoadReport | None = None

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``<save_dir>/<name>.pth`` atomically and marks it as the newest.

        Args:
            name: file name without its ending.
            **kwargs: plain values to store with it, such as ``iteration``.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        extra = {
            key: getattr(self, key).state_dict()
            for key in _RESUMED
            if getattr(self, key) is not None
        }
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", path)
        native.save_weights(
            self.model,
            path,
            class_names=self.class_names,
            config=self.config_text,
            extra={**extra, **kwargs},
        )
        self.tag_last_checkpoint(path.name)

    def load(self, f: str | Path | None = None, use_latest: bool = True) -> dict[str, Any]:
        """Loads weights, and the state of the training that they belong to.

        Args:
            f: a file, or what the subclass can resolve; None or "" starts from scratch.
            use_latest: prefer the checkpoint that ``last_checkpoint`` names, where there is one.

        Returns:
            What else was stored, such as ``iteration``. The optimizer, the schedule and this are
            restored only from our own files, and only where every weight fits: weights for another
            number of classes begin a new training.
        """
        if use_latest and self.has_checkpoint():
            f = self.get_checkpoint_file()
        if not f:
            self.logger.info("No checkpoint found, the model keeps its initial weights")
            return {}
        path = self._resolve(f)
        self.logger.info("Loading checkpoint from %s", path)
        content = read_checkpoint(path)
        self.report = load_content(self.model, content, source=str(path))
        if self.report.format != native.FORMAT:
            return {}
        if not self.report.complete:
            self.logger.info("Not all weights fit: they begin a new training")
            return {}
        stored = {key: value for key, value in content.items() if key not in native.KEYS}
        for key in _RESUMED:
            state = stored.pop(key, None)
            if state is not None and getattr(self, key) is not None:
                getattr(self, key).load_state_dict(state)
        return stored

    def has_checkpoint(self) -> bool:
        """Whether ``save_dir`` names a newest checkpoint."""
        return bool(self.save_dir) and (Path(self.save_dir) / _LAST).is_file()

    def get_checkpoint_file(self) -> str:
        """Returns the path of the newest checkpoint, "" where there is none.

        Raises:
            FileNotFoundError: ``last_checkpoint`` names a file that is not there.
        """
        if not self.has_checkpoint():
            return ""
        tag = Path(self.save_dir) / _LAST
        name = tag.read_text().strip()
        # maskrcnn-benchmark wrote whole paths; a folder that was moved holds the file all the same.
        for path in (Path(self.save_dir) / name, Path(name), tag.with_name(Path(name).name)):
            if path.is_file():
                return str(path)
        raise FileNotFoundError(
            f"{tag} names {name!r}, which is not there; restore it, or delete {tag} to start anew"
        )

    def tag_last_checkpoint(self, last_filename: str | Path) -> None:
        """Writes which checkpoint is the newest."""
        native.write_atomically(Path(self.save_dir) / _LAST, str(last_filename))

    def _resolve(self, f: str | Path) -> Path:
        return Path(f)


class DetectronCheckpointer(Checkpointer):
    """A checkpointer that also finds weights by catalog name or URL and stores the configuration.

    Args:
        cfg: the resolved configuration; its text is stored in every checkpoint.
    """

    def __init__(
        self,
        cfg: _Config,
        model: nn.Module,
        optimizer: Stateful | None = None,
        scheduler: Stateful | None = None,
        save_dir: str | Path = "",
        save_to_disk: bool | None = None,
        logger: logging.Logger | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            model,
            optimizer,
            scheduler,
            save_dir,
            save_to_disk,
            logger,
            class_names=class_names,
        )
        self.config_text = cfg.dump()

    def _resolve(self, f: str | Path) -> Path:
        return resolve_weights(f)
