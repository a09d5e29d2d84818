"""What a detector runs on."""

import pytest
import torch

from maskrcnn_lib.engine.inference import resolve_device


@pytest.mark.parametrize("name", ["gpu", "cuda:x", ""])
def test_a_device_that_does_not_exist_is_named(name):
    with pytest.raises(ValueError, match=r"MODEL\.DEVICE"):
        resolve_device(name)


def test_without_a_gpu_the_cpu_serves_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    assert not caplog.text
    assert resolve_device("cuda:1") == torch.device("cpu")
    assert "MODEL.DEVICE is 'cuda:1'" in caplog.text


def test_the_number_of_a_gpu_must_exist(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="has 2 GPUs"):
        resolve_device("cuda:2")
