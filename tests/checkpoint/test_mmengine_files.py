"""Training files of mmengine, with its log as objects of its own."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.loading import import_content
from maskrcnn_lib.checkpoint.mmengine_files import Inert

_HISTORY_BUFFER = """
import numpy as np

class HistoryBuffer:
    def __init__(self, values):
        self._log_history = np.array(values)

    def mean(self):
        return self._log_history.mean()

    def __getstate__(self):
        return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}
"""


@pytest.fixture
def training_file(tmp_path, monkeypatch):
    """Function that stores a training's content with a log of mmengine's kind, and its path.

    The class exists while it is stored alone, and is pickled as mmengine's: with numpy's arrays and
    with functions, which protocol 2 looks up by getattr.
    """
    name = "mmengine.logging.history_buffer"

    def store(**others):
        with monkeypatch.context() as patched:
            for part in ("mmengine", "mmengine.logging", name):
                patched.setitem(sys.modules, part, types.ModuleType(part))
            exec(_HISTORY_BUFFER, sys.modules[name].__dict__)
            buffer = sys.modules[name].HistoryBuffer([2.0, 1.0])
            hub = {"log_scalars": {"loss": buffer}, "runtime_info": {"lr": np.float64(0.1)}}
            state = {"rpn_head.rpn_cls.bias": torch.tensor([1.0, 2.0, 3.0])}
            meta = {"iter": np.int64(3), "dataset_meta": {"classes": ("balloon",)}}
            content = {"meta": meta, "state_dict": state, "message_hub": hub, **others}
            torch.save(content, tmp_path / "epoch_12.pth")
        return tmp_path / "epoch_12.pth"

    return store


def test_training_file_with_mmengine_s_log_is_read(training_file):
    content = read_checkpoint(training_file())
    imported = import_content(content, source="a test")
    assert imported.tensors["rpn.head.cls_logits.bias"].tolist() == [1, 2, 3]
    assert imported.class_names == ("__background", "balloon")
    assert isinstance(content["message_hub"]["log_scalars"]["loss"], Inert)


def test_training_file_that_asks_for_more_is_refused(training_file):
    with pytest.raises(ValueError, match="is refused: it asks for"):
        read_checkpoint(training_file(extra=Path("somewhere")))


def test_numpy_alone_is_still_refused(tmp_path):
    torch.save({"state_dict": {"x": np.ones(2)}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="is refused: it asks for"):
        read_checkpoint(tmp_path / "x.pth")
