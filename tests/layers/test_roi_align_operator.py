"""RoIAlign as an operator: derivatives, compilation, threads, vectors and large maps."""

import importlib
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from maskrcnn_lib.layers import roi_align

from .roi_samples import LAYOUTS, SCALE, make_map, make_rois, needs_ops, with_gradient

module = importlib.import_module("maskrcnn_lib.layers.roi_align")


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_do_not_depend_on_the_number_of_threads(dtype, layout):
    features = make_map((2, 300, 40, 50), dtype=dtype, layout=layout)
    arguments = (make_rois(200, dtype=torch.float32), 7, SCALE, 0, False)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 7, 1, 2):
            torch.set_num_threads(count)
            results.append(with_gradient(roi_align, features, *arguments))
    finally:
        torch.set_num_threads(threads)
    for result, gradient in results[1:]:
        assert torch.equal(result, results[0][0])
        assert torch.equal(gradient, results[0][1])


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_gradients_of_first_and_second_order(layout, sampling_ratio):
    features = make_map((1, 2, 6, 7), layout=layout).requires_grad_()
    rois = torch.tensor([[0, 1, 2, 20, 22], [0, 3, 3, 5, 30], [0, -9, -9, 90, 90]]).double()

    def pool(x: Tensor) -> Tensor:
        return roi_align(x, rois, (2, 3), SCALE, sampling_ratio, True)

    assert torch.autograd.gradcheck(pool, (features,))
    assert torch.autograd.gradgradcheck(pool, (features,))


def test_reference_has_the_right_gradient(monkeypatch):
    monkeypatch.setattr(module, "ops_available", lambda device: False)
    features = make_map((1, 2, 6, 7)).requires_grad_()
    rois = torch.tensor([[0, 1, 2, 20, 22], [0, 3, 3, 5, 30]]).double()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 2, SCALE, 0), (features,))


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_pass_opcheck(dtype, layout):
    features = make_map((2, 3, 9, 12), dtype, layout).requires_grad_()
    rois = make_rois(5, dtype=torch.float32)
    arguments = (features, rois, SCALE, 3, 2, 0, True)
    torch.library.opcheck(torch.ops.maskrcnn.roi_align.default, arguments)
    gradient = make_map((5, 3, 3, 2), dtype, layout).requires_grad_()
    last = layout == torch.channels_last
    arguments = (gradient, rois, [2, 3, 9, 12], SCALE, 0, True, last, False)
    torch.library.opcheck(torch.ops.maskrcnn.roi_align_backward.default, arguments)


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_compile_keeps_one_graph(layout):
    @torch.compile(fullgraph=True, backend="aot_eager")
    def head(features: Tensor, rois: Tensor) -> Tensor:
        return roi_align(features.relu(), rois, 7, SCALE, 2).mean(dim=(2, 3))

    features = make_map(dtype=torch.float32, layout=layout)
    for count in (6, 9):
        rois = make_rois(count, dtype=torch.float32)
        compiled = with_gradient(head, features, rois)
        eager = with_gradient(
            lambda x, rois: roi_align(x.relu(), rois, 7, SCALE, 2).mean(dim=(2, 3)), features, rois
        )
        torch.testing.assert_close(compiled, eager)


@needs_ops
def test_offsets_beyond_32_bits_are_read():
    """The second image lies 2^31 numbers behind the first; the memory between is never touched."""
    distance = 2**31 + 8
    small = make_map((1, 16, 8, 8), torch.bfloat16)
    memory = torch.empty(distance + small.numel(), dtype=torch.bfloat16)
    rois = torch.tensor([[1, 2.0, 3.0, 20.0, 25.0]])
    for layout in LAYOUTS:
        strides = small.contiguous(memory_format=layout).stride()
        features = memory.as_strided((2, 16, 8, 8), (distance, *strides[1:]))
        features[1] = small[0]
        expected = roi_align(
            small.contiguous(memory_format=layout),
            rois - torch.tensor([1.0, 0, 0, 0, 0]),
            7,
            SCALE,
            2,
        )
        assert torch.equal(roi_align(features, rois, 7, SCALE, 2), expected)


@needs_ops
@pytest.mark.slow
def test_offsets_beyond_32_bits_are_written():
    """The gradient has 2^31 numbers and more: 4.3 GB. The box lies in its last corner."""
    side, small = 8193, 64
    rois = torch.tensor([[1, 200.0, 200.0, 216.0, 216.0]])  # samples fall on binary fractions
    far = rois + torch.tensor([0.0, *[(side - small) / SCALE] * 4])
    gradient = make_map((1, 16, 2, 2), torch.bfloat16, torch.channels_last)
    spread = torch.ops.maskrcnn.roi_align_backward
    expected = spread(gradient, rois, [2, 16, small, small], SCALE, 2, False, True, False)
    result = spread(gradient, far, [2, 16, side, side], SCALE, 2, False, True, False)
    assert result.numel() > 2**31
    assert expected[1].any()
    assert torch.equal(result[:, :, -small:, -small:], expected)


IN_ANOTHER_PROCESS = """
import sys, torch
from maskrcnn_lib.layers import roi_align
data = torch.load(sys.argv[1])
results = []
for features in data["features"]:
    features.requires_grad_()
    pooled = roi_align(features, data["rois"], 7, 0.25, 0, True)
    pooled.backward(torch.ones_like(pooled))
    results += [pooled.detach(), features.grad]
torch.save(results, sys.argv[2])
"""


@needs_ops
@pytest.mark.parametrize("simd", ["baseline", "avx2"])
def test_narrower_vectors_agree(simd, tmp_path):
    """The instructions are chosen once per process, hence another process."""
    features = [
        make_map((2, 150, 21, 34), dtype, layout)
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
        for layout in LAYOUTS
    ]
    rois = make_rois(dtype=torch.float32)
    torch.save({"features": features, "rois": rois}, tmp_path / "in")
    subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, tmp_path / "in", tmp_path / "out"],
        env={**os.environ, "MASKRCNN_SIMD": simd},
        check=True,
    )
    results = iter(torch.load(tmp_path / "out"))
    for example in features:
        example.requires_grad_()
        pooled = roi_align(example, rois, 7, SCALE, 0, True)
        pooled.backward(torch.ones_like(pooled))
        # Fused and separate multiplication and addition differ by a rounding per term.
        close = {"rtol": torch.finfo(example.dtype).eps, "atol": 1e-4}
        torch.testing.assert_close(next(results), pooled.detach(), **close)
        torch.testing.assert_close(next(results), example.grad, **close)
