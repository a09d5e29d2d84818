"""Weights as 8-bit integers: how far they move, how small they are, and that they load anywhere."""

import numpy as np
import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.compact import expand, quantise, restore, save_compact
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.safetensors import save_safetensors

NAMES = ("__background", "cat")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(64, 32, bias=True)
    )


def test_no_weight_moves_by_more_than_half_a_step():
    weight = torch.randn(5, 4, 3, 3) * torch.tensor([1e-6, 1e-2, 1, 50, 0])[:, None, None, None]
    values, scale = quantise(weight)
    assert values.dtype == torch.int8 and scale.shape == (5,)
    # by numpy in float64, channel by channel
    for channel, back in zip(weight.double().numpy(), restore(values, scale).numpy(), strict=True):
        step = np.abs(channel).max() / 127
        assert np.abs(channel - back).max() <= step / 2 * (1 + 1e-5)
    assert (restore(values, scale)[4] == 0).all()


def test_largest_weight_of_a_channel_is_kept():
    values, scale = quantise(torch.tensor([[-254.0, 2.0], [1.0, 3.0]]))
    assert values.tolist() == [[-127, 1], [42, 127]]
    assert scale.tolist() == [2.0, pytest.approx(3 / 127)]


def test_file_loads_completely_and_norms_are_exact(model, tmp_path):
    path = tmp_path / "small.safetensors"
    model[1].running_var.fill_(1e6)  # beyond what float16 could hold
    save_compact(model, path, class_names=NAMES, config="DTYPE: float32\n")
    other = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(64, 32))
    report = load_weights(other, path, strict=True)
    assert report.class_names == NAMES and report.format == "maskrcnn_lib"
    for name, value in model.state_dict().items():
        loaded = other.state_dict()[name]
        if value.dim() >= 2:
            assert not torch.equal(loaded, value)
            step = value.flatten(1).abs().amax(dim=1).max() / 127
            torch.testing.assert_close(loaded, value, atol=float(step) / 2 * 1.001, rtol=0)
        else:
            assert torch.equal(loaded, value), name


def test_file_is_about_a_quarter(tmp_path):
    model = nn.Linear(512, 512)
    save_compact(model, tmp_path / "small.safetensors")
    save_safetensors(model, tmp_path / "large.safetensors")
    small, large = ((tmp_path / f"{n}.safetensors").stat().st_size for n in ("small", "large"))
    assert small < 0.27 * large


def test_the_safetensors_package_reads_the_stored_integers(model, tmp_path):
    theirs = pytest.importorskip("safetensors.torch")
    save_compact(model, tmp_path / "small.safetensors")
    loaded = theirs.load_file(tmp_path / "small.safetensors")
    assert loaded["0.weight"].dtype == torch.int8
    read = read_checkpoint(tmp_path / "small.safetensors")["model"]
    assert torch.equal(restore(loaded["0.weight"], loaded["0.weight.scale"]), read["0.weight"])


def test_other_contents_stay_as_they_are():
    tensors = {"gain.scale": torch.ones(2), "gain": torch.ones(2, 2)}
    assert expand({"model": tensors})["model"].keys() == tensors.keys()
    assert expand({"weight": torch.ones(2)}).keys() == {"weight"}


def test_scales_that_do_not_fit_are_an_error():
    content = {"model": {"w": torch.ones(3, 2, dtype=torch.int8), "w.scale": torch.ones(2)}}
    with pytest.raises(ValueError, match=r"\(2,\) scales for the weight w of \(3, 2\)"):
        expand(content)
