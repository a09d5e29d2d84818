"""Non-maximum suppression against torchvision and against the definition in plain PyTorch."""

import ast
import importlib
import os
import subprocess
import sys

import pytest
import torch
import torchvision

from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.layers.nms import batched_nms, batched_nms_fixed, nms

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def random_boxes(n, generator, size=300.0, largest=150.0):
    corner = torch.rand(n, 2, generator=generator) * size
    extent = torch.rand(n, 2, generator=generator) * largest
    return torch.cat([corner, corner + extent], dim=1)


def random_problem(seed, n=None, groups=5, levels=None):
    """Boxes, scores (with ties where levels are given) and groups, float32."""
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(0, 400, (), generator=generator)) if n is None else n
    scores = torch.rand(n, generator=generator)
    if levels:
        scores = (scores * levels).round() / levels
    group = torch.randint(-2, groups - 2, (n,), generator=generator)
    return random_boxes(n, generator), scores, group


def without_ops(monkeypatch):
    module = importlib.import_module("maskrcnn_lib.layers.nms")
    monkeypatch.setattr(module, "_compiled", lambda boxes: False)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_keeps_what_torchvision_keeps(threshold):
    for seed in range(40):
        boxes, scores, _ = random_problem(seed)
        expected = torchvision.ops.nms(boxes, scores, threshold)
        assert torch.equal(nms(boxes, scores, threshold), expected)
        double = nms(boxes.double(), scores.double(), threshold)
        assert torch.equal(double, torchvision.ops.nms(boxes.double(), scores.double(), threshold))


def test_many_boxes_keep_what_torchvision_keeps():
    boxes, scores, _ = random_problem(0, n=4819)
    assert torch.equal(nms(boxes, scores, 0.6), torchvision.ops.nms(boxes, scores, 0.6))


def test_equal_scores_are_taken_by_index():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10.5], [50, 50, 60, 60], [0, 0, 10, 10]])
    scores = torch.tensor([0.0, -0.0, 0.0, 0.0])
    assert nms(boxes, scores, 0.5).tolist() == [0, 2]
    assert nms(boxes.flip(0), scores, 0.5).tolist() == [0, 1]


def test_overlap_equal_to_the_threshold_does_not_suppress():
    boxes = torch.tensor([[0.0, 0, 2, 1], [1, 0, 3, 1], [0, 0, 1, 1]])  # IoU 1/3 and 1/2
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1, 2]
    assert nms(boxes, scores, 0.4999).tolist() == [0, 1]


@needs_ops
@pytest.mark.parametrize("dtype", DTYPES)
def test_operator_equals_the_definition(dtype, monkeypatch):
    problems = [random_problem(seed, n=150, levels=20) for seed in range(6)]
    problems = [(boxes.to(dtype), scores.to(dtype), groups) for boxes, scores, groups in problems]
    answers = [(nms(b, s, 0.4), batched_nms(b, s, g, 0.4)) for b, s, g in problems]
    without_ops(monkeypatch)
    for (boxes, scores, groups), (single, grouped) in zip(problems, answers, strict=True):
        assert torch.equal(nms(boxes, scores, 0.4), single)
        assert torch.equal(batched_nms(boxes, scores, groups, 0.4), grouped)


@needs_ops
def test_boxes_without_or_with_negative_area_follow_the_definition(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    boxes = torch.randint(-3, 4, (300, 4), generator=generator).float()
    scores = torch.rand(300, generator=generator)
    kept = [nms(boxes, scores, threshold) for threshold in (0.0, 0.25, 0.5, 1.0)]
    without_ops(monkeypatch)
    for threshold, indices in zip((0.0, 0.25, 0.5, 1.0), kept, strict=True):
        assert torch.equal(nms(boxes, scores, threshold), indices)


def test_groups_are_independent_problems():
    for seed in range(10):
        boxes, scores, groups = random_problem(seed)
        kept = torch.zeros(len(boxes), dtype=torch.bool)
        for group in groups.unique():
            places = (groups == group).nonzero().squeeze(1)
            kept[places[torchvision.ops.nms(boxes[places], scores[places], 0.5)]] = True
        places = kept.nonzero().squeeze(1)
        expected = places[scores[places].argsort(descending=True, stable=True)]
        assert torch.equal(batched_nms(boxes, scores, groups, 0.5), expected)


def test_extreme_group_numbers_are_kept_apart():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(4, 1)
    scores = torch.tensor([0.4, 0.3, 0.2, 0.1])
    groups = torch.tensor([2**63 - 1, -(2**63), 0, 2**63 - 1])
    assert batched_nms(boxes, scores, groups, 0.5).tolist() == [0, 1, 2]


def test_overlap_is_exact_in_the_last_of_many_groups():
    """Moving boxes apart by group, as others do, would turn this IoU of 0.962 into 0.909."""
    boxes = torch.tensor([[7000.0, 7000, 7010.2, 7010.2], [7000, 7000, 7010.0, 7010.0]])
    scores = torch.tensor([0.9, 0.8])
    groups = torch.tensor([1203, 1203])
    iou = torchvision.ops.box_iou(boxes, boxes)[0, 1].item()
    assert batched_nms(boxes, scores, groups, iou - 1e-4).tolist() == [0]
    assert batched_nms(boxes, scores, groups, iou + 1e-4).tolist() == [0, 1]


def padded_batch(rows=4, n=120):
    problems = [random_problem(seed, n=n, levels=30) for seed in range(rows)]
    boxes, scores, groups = (torch.stack(parts) for parts in zip(*problems, strict=True))
    scores[0, ::3] = -torch.inf
    scores[1, ::4] = torch.nan
    boxes[0, ::3] = torch.nan  # what padding holds does not matter
    scores[2] = -torch.inf
    return boxes, scores, groups


@pytest.mark.parametrize("max_output", [0, 7, 500])
def test_fixed_size_variant_equals_each_row_alone(max_output):
    boxes, scores, groups = padded_batch()
    indices, counts = batched_nms_fixed(boxes, scores, groups, 0.5, max_output)
    assert indices.shape == (4, max_output) and counts.shape == (4,)
    for row in range(4):
        valid = (scores[row] > -torch.inf).nonzero().squeeze(1)
        expected = valid[
            batched_nms(boxes[row, valid], scores[row, valid], groups[row, valid], 0.5)
        ]
        expected = expected[:max_output]
        assert counts[row] == len(expected)
        assert torch.equal(indices[row, : len(expected)], expected)
        assert not indices[row, len(expected) :].any()


def test_groups_can_be_capped():
    boxes, scores, groups = padded_batch()
    every, every_count = batched_nms_fixed(boxes, scores, groups, 0.5, 120)
    capped, count = batched_nms_fixed(boxes, scores, groups, 0.5, 120, max_per_group=2)
    for row in range(4):
        seen, expected = {}, []
        for index in every[row, : every_count[row]].tolist():
            group = int(groups[row, index])
            seen[group] = seen.get(group, 0) + 1
            if seen[group] <= 2:
                expected.append(index)
        assert capped[row, : count[row]].tolist() == expected


@needs_ops
def test_fixed_size_operator_equals_the_definition(monkeypatch):
    boxes, scores, groups = padded_batch()
    cases = [(120, 0), (10, 0), (120, 1), (9, 3)]
    answers = [batched_nms_fixed(boxes, scores, groups, 0.4, *case) for case in cases]
    without_ops(monkeypatch)
    for case, (indices, counts) in zip(cases, answers, strict=True):
        expected_indices, expected_counts = batched_nms_fixed(boxes, scores, groups, 0.4, *case)
        assert torch.equal(indices, expected_indices)
        assert torch.equal(counts, expected_counts)


@pytest.mark.parametrize("compiled", [True, False])
def test_no_boxes_give_no_indices(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    boxes, scores, groups = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert nms(boxes, scores, 0.5).shape == (0,)
    assert batched_nms(boxes, scores, groups, 0.5).dtype == torch.int64
    for rows in (0, 2):
        indices, counts = batched_nms_fixed(
            boxes.expand(rows, 0, 4), scores.expand(rows, 0), groups.expand(rows, 0), 0.5, 3
        )
        assert indices.tolist() == [[0, 0, 0]] * rows
        assert counts.tolist() == [0] * rows


def test_memory_layout_does_not_matter():
    boxes, scores, groups = random_problem(3, n=200)
    strided_boxes = boxes.t().contiguous().t()
    strided_scores = scores.repeat_interleave(2)[::2]
    strided_groups = groups.repeat_interleave(2)[::2]
    expected = batched_nms(boxes, scores, groups, 0.5)
    assert torch.equal(batched_nms(strided_boxes, strided_scores, strided_groups, 0.5), expected)


def test_wrong_input_raises_and_names_the_argument():
    boxes, scores, groups = random_problem(0, n=5)
    broken = boxes.clone()
    broken[3, 2] = torch.nan
    with pytest.raises(ValueError, match=r"boxes must be finite, but box \(3,\)"):
        nms(broken, scores, 0.5)
    with pytest.raises(ValueError, match="scores must not be NaN"):
        nms(boxes, scores.log() * torch.nan, 0.5)
    with pytest.raises(ValueError, match="boxes must have shape"):
        nms(boxes[:, :3], scores, 0.5)
    with pytest.raises(ValueError, match="scores must have shape"):
        nms(boxes, scores[:4], 0.5)
    with pytest.raises(ValueError, match="iou_threshold"):
        nms(boxes, scores, 1.5)
    with pytest.raises(TypeError, match="boxes must be floating point"):
        nms(boxes.long(), scores, 0.5)
    with pytest.raises(TypeError, match=r"scores must be a torch\.Tensor"):
        nms(boxes, scores.tolist(), 0.5)
    with pytest.raises(TypeError, match="groups must be int64"):
        batched_nms(boxes, scores, groups.int(), 0.5)
    with pytest.raises(ValueError, match="groups must be on the device"):
        batched_nms(boxes, scores, groups.to("meta"), 0.5)
    rows = (boxes[None], scores[None], groups[None])
    with pytest.raises(ValueError, match="max_output"):
        batched_nms_fixed(*rows, 0.5, -1)
    with pytest.raises(ValueError, match="max_per_group"):
        batched_nms_fixed(*rows, 0.5, 1, -1)
    with pytest.raises(ValueError, match="boxes must be finite"):
        batched_nms_fixed(broken[None], *rows[1:], 0.5, 1)


@needs_ops
def test_operators_called_directly_refuse_wrong_input():
    boxes, scores, groups = random_problem(0, n=5)
    ops = torch.ops.maskrcnn
    wrong_calls = {
        "boxes must have": lambda: ops.nms(boxes[:, :3], scores, 0.5),
        "boxes must be finite": lambda: ops.nms(boxes / 0, scores, 0.5),
        "boxes must be floating": lambda: ops.nms(boxes.long(), scores, 0.5),
        "scores must have": lambda: ops.nms(boxes, scores[:2], 0.5),
        "scores must not": lambda: ops.nms(boxes, scores * torch.nan, 0.5),
        "groups must have": lambda: ops.batched_nms(boxes, scores, groups[:1], 0.5),
        "groups must be": lambda: ops.batched_nms(boxes, scores, scores, 0.5),
        "iou_threshold": lambda: ops.nms(boxes, scores, float("nan")),
        "max_output": lambda: ops.batched_nms_fixed(
            boxes[None], scores[None], groups[None], 0.5, -1, 0
        ),
    }
    for message, call in wrong_calls.items():
        with pytest.raises(RuntimeError, match=message):
            call()


@needs_ops
def test_operators_keep_torch_library_rules():
    boxes, scores, groups = random_problem(2, n=40)
    ops = torch.ops.maskrcnn
    torch.library.opcheck(ops.nms.default, (boxes, scores, 0.5))
    torch.library.opcheck(ops.batched_nms.default, (boxes, scores, groups, 0.5))
    rows = (boxes[None], scores[None], groups[None])
    torch.library.opcheck(ops.batched_nms_fixed.default, (*rows, 0.5, 10, 0))


@needs_ops
def test_fixed_size_variant_compiles_into_one_graph():
    boxes, scores, groups = padded_batch()

    def best_scores(boxes, scores, groups):
        indices, counts = batched_nms_fixed(boxes, scores, groups, 0.5, 10)
        return scores.gather(1, indices), counts

    compiled = torch.compile(best_scores, fullgraph=True, backend="aot_eager")
    expected, expected_counts = best_scores(boxes, scores, groups)
    values, counts = compiled(boxes, scores, groups)
    assert torch.equal(counts, expected_counts)
    assert torch.equal(values.nan_to_num(), expected.nan_to_num())


@needs_ops
@pytest.mark.parametrize("simd", ["baseline", "avx2"])
def test_narrower_vectors_give_the_same_boxes_and_masks(simd):
    """The choice is made once per process, so another process computes with narrower vectors."""
    code = (
        "import torch\n"
        "from maskrcnn_lib.layers import masks_to_rle, nms, paste_masks\n"
        "generator = torch.Generator().manual_seed(0)\n"
        "corner = torch.rand(900, 2, generator=generator) * 300\n"
        "extent = torch.rand(900, 2, generator=generator) * 90\n"
        "boxes = torch.cat([corner, corner + extent], 1)\n"
        "masks = torch.rand(20, 28, 28, generator=generator)\n"
        "scores = masks.flatten()[:900]\n"
        "answer = [nms(boxes.to(dtype), scores, 0.5).tolist()"
        " + paste_masks(masks.to(dtype), boxes[:20], (200, 300)).sum((1, 2)).tolist()"
        " + masks_to_rle(masks.to(dtype), boxes[:20], (200, 300), aligned=True)"
        " for dtype in (torch.float32, torch.float64)]\n"
    )
    here = {}
    exec(code, here)
    there = subprocess.run(
        [sys.executable, "-c", code + "print(answer)"],
        env={**os.environ, "MASKRCNN_SIMD": simd},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(there.stdout) == here["answer"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_keeps_the_same_boxes_as_the_cpu(dtype):
    for seed in range(20):
        boxes, scores, groups = random_problem(seed, n=1 + 337 * seed, levels=500)
        boxes, scores = boxes.to(dtype), scores.to(dtype)
        for threshold in (0.0, 0.5, 0.9):
            kept = nms(boxes.cuda(), scores.cuda(), threshold)
            assert torch.equal(kept.cpu(), nms(boxes, scores, threshold))
            kept = batched_nms(boxes.cuda(), scores.cuda(), groups.cuda(), threshold)
            assert torch.equal(kept.cpu(), batched_nms(boxes, scores, groups, threshold))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("max_output", "cap"), [(0, 0), (10, 0), (6000, 0), (200, 3)])
@pytest.mark.parametrize("n", [0, 1, 64, 1000, 9001])
def test_cuda_fixed_size_variant_equals_the_cpu_without_synchronising(n, max_output, cap):
    problems = [random_problem(seed, n=n, levels=700, groups=9) for seed in range(3)]
    boxes, scores, groups = (torch.stack(parts) for parts in zip(*problems, strict=True))
    scores[0, ::5] = -torch.inf
    scores[1, ::7] = torch.nan
    on_gpu = [tensor.cuda() for tensor in (boxes, scores, groups)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        indices, counts = batched_nms_fixed(*on_gpu, 0.5, max_output, cap)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected_indices, expected_counts = batched_nms_fixed(
        boxes, scores, groups, 0.5, max_output, cap
    )
    assert torch.equal(indices.cpu(), expected_indices)
    assert torch.equal(counts.cpu(), expected_counts)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_refuses_nan_and_tensors_on_two_devices():
    boxes, scores, _ = random_problem(0, n=100)
    with pytest.raises(ValueError, match="scores must be on the device of boxes"):
        nms(boxes.cuda(), scores, 0.5)
    boxes[17, 1] = torch.nan
    with pytest.raises(RuntimeError, match="boxes must be finite"):
        nms(boxes.cuda(), scores.cuda(), 0.5)
