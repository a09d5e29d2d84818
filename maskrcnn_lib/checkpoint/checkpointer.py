"""Saving during training and resuming from it, with maskrcnn-benchmark's interface.

Next to the checkpoints a text file ``last_checkpoint`` names the newest one.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from maskrcnn_lib.checkpoint import native
from maskrcnn_lib.checkpoint.download import resolve_weights
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.loading import load_content
from maskrcnn_lib.checkpoint.report import LoadReport
from maskrcnn_lib.checkpoint.safetensors import save_safetensors
from maskrcnn_lib.utils.comm import is_main_process

_LAST = "last_checkpoint"
_PERIODIC = re.compile(r"model_(\d+)\.pth")
_HALF_WRITTEN = re.compile(r".+\.\d+\.tmp")  # see native.write_atomically
_TRAINING_WEIGHTS, _AVERAGE = "training_weights", "average"


class Stateful(Protocol):
    """Anything whose state can be saved: optimizers and learning-rate schedules."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> object: ...


class Average(Stateful, Protocol):
    """A model that follows the one in training, such as ``solver.weight_average``'s."""

    model: nn.Module

    def load_weights(self, weights: Mapping[str, Tensor]) -> None: ...


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
        scaler: saved and restored with it, where float16 needs one.
        average: an average of the model's weights over the training. Files hold it as the model,
            because it is what one wants to use, and the weights in training beside it.
        keep: number of the newest ``model_0001000.pth`` that are kept; 0 for all.

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
        scaler: Stateful | None = None,
        average: Average | None = None,
        keep: int = 0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.save_dir = str(save_dir)
        self.save_to_disk = is_main_process() if save_to_disk is None else save_to_disk
        self.logger = logger or logging.getLogger(__name__)
        self.class_names = class_names
        self.scaler = scaler
        self.average = average
        self.keep = keep
        self.report: LoadReport | None = None

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``<save_dir>/<name>.pth`` atomically and marks it as the newest.

        Args:
            name: file name without its ending.
            **kwargs: plain values to store with it, such as ``iteration``.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        extra = {name: item.state_dict() for name, item in self._restored().items()}
        if self.average is not None:
            extra[_AVERAGE] = self.average.state_dict()
            extra[_TRAINING_WEIGHTS] = native.bare_model(self.model).state_dict()
        self._write(name, {**extra, **kwargs})
        self.tag_last_checkpoint(f"{name}.pth")
        self._remove_old(f"{name}.pth")
        self._remove_half_written()

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Writes ``<save_dir>/<name>.pth`` with weights to use, without the state of the training.

        Args:
            name: file name without its ending.
            **kwargs: plain values to store with it, such as ``iteration``.
        """
        if self.save_dir and self.save_to_disk:
            self._write(name, kwargs)

    def export(self, name: str) -> None:
        """Writes the weights to use as ``<save_dir>/<name>.safetensors``."""
        if not self.save_dir or not self.save_to_disk:
            return
        path = Path(self.save_dir) / f"{name}.safetensors"
        self.logger.info("Saving weights to %s", path)
        save_safetensors(
            self._usable(), path, class_names=self.class_names, config=self.config_text
        )

    def _usable(self) -> nn.Module:
        return self.model if self.average is None else self.average.model

    def _write(self, name: str, extra: Mapping[str, Any]) -> None:
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", path)
        native.save_weights(
            self._usable(),
            path,
            class_names=self.class_names,
            config=self.config_text,
            extra=extra,
        )

    def _restored(self) -> dict[str, Stateful]:
        parts = {
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _remove_old(self, newest: str) -> None:
        if not self.keep:
            return
        periodic = {
            path: int(match[1])
            for path in Path(self.save_dir).iterdir()
            if (match := _PERIODIC.fullmatch(path.name)) and path.name != newest
        }
        kept = self.keep - bool(_PERIODIC.fullmatch(newest))
        for path in sorted(periodic, key=periodic.__getitem__, reverse=True)[kept:]:
            path.unlink()

    def _remove_half_written(self) -> None:
        """Removes what killed processes left; there is one process that saves."""
        for path in Path(self.save_dir).iterdir():
            if _HALF_WRITTEN.fullmatch(path.name):
                path.unlink()

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
        content = self._read(path)
        self.report = load_content(self.model, content, source=str(path))
        if self.average is not None:
            self.average.load_weights(native.bare_model(self.model).state_dict())
        if self.report.format != native.FORMAT:
            return {}
        if not self.report.complete:
            self.logger.info("Not all weights fit: they begin a new training")
            return {}
        return self._restore(
            {key: value for key, value in content.items() if key not in native.KEYS}
        )

    def _read(self, path: Path) -> Any:
        try:
            return read_checkpoint(path)
        except ValueError as error:
            tag = Path(self.save_dir) / _LAST
            if not self.has_checkpoint() or path != Path(self.get_checkpoint_file()):
                raise
            raise ValueError(f"{error}; or name an older checkpoint in {tag}") from error

    def _restore(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Takes what belongs to the training out of ``stored``; returns the rest."""
        restored = self._restored()
        for key in ("optimizer", "scheduler", "scaler"):
            state = stored.pop(key, None)
            if state and key in restored:
                restored[key].load_state_dict(state)
        average, weights = stored.pop(_AVERAGE, None), stored.pop(_TRAINING_WEIGHTS, None)
        if average and self.average is not None:
            self.average.load_state_dict(average)
        if weights:
            native.bare_model(self.model).load_state_dict(weights)
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
        name = tag.read_text().strip() or "nothing"
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
        model, *args, **kwargs: as for :class:`Checkpointer`.
    """

    def __init__(self, cfg: _Config, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        self.config_text = cfg.dump()

    def _resolve(self, f: str | Path) -> Path:
        return resolve_weights(f)
