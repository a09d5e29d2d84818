"""Our safetensors are those that the safetensors package reads, and damage is an error."""

import json

import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import Checkpointer, load_weights
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.safetensors import save_safetensors

NAMES = ("__background", "böjd")


class _Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5).to(memory_format=torch.contiguous_format).t())
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("small", torch.randn(2, 3, dtype=torch.bfloat16))
        self.register_buffer("none", torch.empty(0, 4))
        self.register_buffer("odd", torch.tensor([True, False, True]))


def test_what_is_written_is_read_back_with_its_names(tmp_path):
    model = _Mixed()
    path = tmp_path / "model.safetensors"
    save_safetensors(model, path, class_names=NAMES, config="DTYPE: float32\n")
    content = read_checkpoint(path)
    assert content["class_names"] == list(NAMES)
    assert content["config"] == "DTYPE: float32\n"
    other = _Mixed()
    report = load_weights(other, path, strict=True)
    assert (report.format, report.class_names) == ("maskrcnn_lib", NAMES)
    for name, value in model.state_dict().items():
        assert torch.equal(content["model"][name], value)
        assert torch.equal(other.state_dict()[name], value)


def test_the_safetensors_package_reads_ours_and_we_read_its(tmp_path):
    theirs = pytest.importorskip("safetensors.torch")
    model = _Mixed()
    save_safetensors(model, tmp_path / "ours.safetensors", class_names=NAMES)
    loaded = theirs.load_file(tmp_path / "ours.safetensors")
    assert loaded.keys() == model.state_dict().keys()
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    theirs.save_file(state, tmp_path / "theirs.safetensors")
    read = read_checkpoint(tmp_path / "theirs.safetensors")
    assert all(torch.equal(read[name], value) for name, value in state.items())


@pytest.mark.parametrize("cut", [9, 60, 200, -1])
def test_a_file_that_is_cut_off_is_an_error_that_names_it(tmp_path, cut):
    path = tmp_path / "model.safetensors"
    save_safetensors(_Mixed(), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read as safetensors"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
        {"dtype": "object", "shape": [1], "data_offsets": [0, 8]},
        {"shape": [1]},
        "text",
    ],
)
def test_a_table_that_lies_is_an_error(tmp_path, entry):
    head = json.dumps({"weight": entry}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        read_checkpoint(path)


def test_checkpointer_exports_the_weights_to_use(tmp_path):
    model = nn.Linear(2, 2)
    Checkpointer(model, save_dir=tmp_path, class_names=NAMES).export("model_final")
    other = nn.Linear(2, 2)
    assert load_weights(other, tmp_path / "model_final.safetensors").complete
    assert torch.equal(other.weight, model.weight)
    assert not (tmp_path / "last_checkpoint").exists()
