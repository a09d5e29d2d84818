"""The expected efficiency of many GPUs, against the formula worked out by hand."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("scaling", "gpu", "detectors", "timing"):
        sys.modules.pop(name, None)


def test_efficiency_is_that_of_a_ring_that_hides_under_the_backward_pass(scripts):
    import scaling

    options = Namespace(
        step=0.1, backward=0.5, gradients=200e6, link=100e9, network=1e9, latency=0.0
    )
    assert scaling.efficiency(1, options) == 1.0
    # eight: 1.75 * 200 MB at 100 GB/s takes 3.5 ms, under the 50 ms; the last 25 MB do not
    assert scaling.efficiency(8, options) == pytest.approx(0.1 / (0.1 + 1.75 * 25e6 / 100e9))
    # sixteen, over the network: 1.875 * 200 MB at 1 GB/s takes 375 ms, of which 50 are hidden
    assert scaling.efficiency(16, options) == pytest.approx(0.1 / (0.1 + 0.375 - 0.05))


def test_the_gpu_benchmark_says_what_to_do_without_a_gpu(scripts, monkeypatch):
    import gpu
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"no CUDA device.*--device cpu"):
        gpu.main([])


@pytest.mark.slow
def test_every_row_of_the_gpu_benchmark_runs(scripts, capsys):
    import gpu

    sizes = ["--size", "96", "128", "--batches", "2", "--predicted", "1", "--rounds", "1"]
    gpu.main(["--device", "cpu", *sizes])
    output = capsys.readouterr().out
    for name in ("RoIAlign", "NMS", "mask targets", "training, 2", "inference, 1"):
        assert name in output
