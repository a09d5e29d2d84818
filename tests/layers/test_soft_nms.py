"""Soft-NMS by hand, against the paper's listing in numpy, plain NMS, and its own reference."""

import importlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from maskrcnn_lib.layers import batched_nms_fixed, soft_nms_fixed
from maskrcnn_lib.layers._library import ops_available

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
module = importlib.import_module("maskrcnn_lib.layers.soft_nms")
METHODS = ("hard", "linear", "gaussian")


@pytest.fixture(params=[pytest.param("compiled", marks=needs_ops), "reference"])
def implementation(request, monkeypatch) -> str:
    if request.param == "reference":
        monkeypatch.setattr(module, "ops_available", lambda device: False)
    return request.param


def make_boxes(rows=3, count=60, dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(rows, count, 2, generator=generator, dtype=torch.float64) * 60
    size = torch.rand(rows, count, 2, generator=generator, dtype=torch.float64) * 40 + 5
    boxes = torch.cat((corner, corner + size), dim=2)
    scores = torch.rand(rows, count, generator=generator, dtype=torch.float64)
    groups = torch.randint(-1, 2, (rows, count), generator=generator)
    return boxes.to(dtype), scores.to(dtype), groups


def listing_of_the_paper(boxes, scores, method, iou_threshold, sigma, min_score):
    """Figure 2 of Bodla et al. for one class: pairs (index, score)."""
    left, found = list(range(len(boxes))), []
    scores = np.array(scores)
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        if scores[best] < min_score:
            break
        found.append((best, scores[best]))
        for i in list(left):
            x1, y1 = np.maximum(boxes[best][:2], boxes[i][:2])
            x2, y2 = np.minimum(boxes[best][2:], boxes[i][2:])
            common = max(x2 - x1, 0) * max(y2 - y1, 0)
            area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[best], boxes[i]))
            iou = common / (area - common)
            if method == "gaussian":
                scores[i] *= math.exp(-(iou**2) / sigma)
            elif iou > iou_threshold and method == "linear":
                scores[i] *= 1 - iou
            elif iou > iou_threshold:
                left.remove(i)
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("threshold", "sigma", "min_score"), [(0.3, 0.5, 1e-4), (0.0, 0.2, 0.1)])
def test_agrees_with_the_papers_listing(implementation, method, threshold, sigma, min_score):
    boxes, scores, groups = make_boxes()
    indices, soft, counts = soft_nms_fixed(
        boxes,
        scores,
        groups,
        method=method,
        max_output=60,
        iou_threshold=threshold,
        sigma=sigma,
        min_score=min_score,
    )
    for row in range(len(boxes)):
        expected = []
        for group in groups[row].unique():
            places = (groups[row] == group).nonzero()[:, 0].tolist()
            arrays = (boxes[row, places].numpy(), scores[row, places].numpy())
            listed = listing_of_the_paper(*arrays, method, threshold, sigma, min_score)
            expected += [(places[index], score) for index, score in listed]
        expected.sort(key=lambda pair: -pair[1])
        count = int(counts[row])
        assert indices[row, :count].tolist() == [index for index, _ in expected]
        found = soft[row, :count].numpy()
        np.testing.assert_allclose(found, [score for _, score in expected], rtol=1e-12)
        assert not indices[row, count:].any()
        assert not soft[row, count:].any()
    assert 5 < int(counts.min())


def test_three_boxes_by_hand(implementation):
    """IoU 1/3 of the first and second box (50 of 150), 0 with the third."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5.0, 0, 15, 10], [40.0, 40, 50, 50]]])
    scores = torch.tensor([[0.9, 0.75, 0.6]])
    groups = torch.zeros(1, 3, dtype=torch.int64)
    expected = {
        "hard": ([0, 2, 0], [0.9, 0.6, 0.0], 2),
        "linear": ([0, 2, 1], [0.9, 0.6, 0.75 * 2 / 3], 3),
        "gaussian": ([0, 1, 2], [0.9, 0.75 * math.exp(-1 / 9 / 0.5), 0.6], 3),
    }
    for method, (indices, values, count) in expected.items():
        found = soft_nms_fixed(
            boxes, scores, groups, method=method, max_output=3, iou_threshold=0.3
        )
        assert found[0].tolist() == [indices]
        torch.testing.assert_close(found[1], torch.tensor([values]))
        assert found[2].tolist() == [count]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_hard_is_plain_nms(implementation, dtype):
    boxes, scores, groups = make_boxes(dtype=dtype)
    scores[1, 40:] = -torch.inf
    rule = {"method": "hard", "iou_threshold": 0.4, "min_score": 0.0}
    indices, soft, counts = soft_nms_fixed(boxes, scores, groups, max_output=25, **rule)
    expected, expected_counts = batched_nms_fixed(boxes, scores, groups, 0.4, 25)
    assert torch.equal(indices, expected)
    assert torch.equal(counts, expected_counts)
    valid = torch.arange(25) < counts[:, None]
    assert torch.equal(soft, scores.gather(1, indices).where(valid, 0))
    assert soft.dtype == dtype


@pytest.mark.parametrize("method", METHODS)
def test_ties_go_to_the_lower_index_and_padding_is_left_out(implementation, method):
    boxes = torch.tensor([0.0, 0, 4, 4]) + 10 * torch.arange(5.0)[:, None]
    boxes[3] = torch.inf
    scores = torch.tensor([[0.5, 0.5, -torch.inf, -torch.inf, 0.5]])
    groups = torch.zeros(1, 5, dtype=torch.int64)
    indices, _, counts = soft_nms_fixed(boxes[None], scores, groups, method=method, max_output=4)
    assert indices.tolist() == [[0, 1, 4, 0]]
    assert counts.tolist() == [3]


@pytest.mark.parametrize(("rows", "count", "most"), [(0, 5, 3), (2, 0, 3), (2, 5, 0)])
def test_nothing_to_take(implementation, rows, count, most):
    boxes, scores, groups = make_boxes(rows, count)
    results = soft_nms_fixed(boxes, scores, groups, method="linear", max_output=most)
    assert [tuple(result.shape) for result in results] == [(rows, most), (rows, most), (rows,)]
    assert not results[2].any()


@needs_ops
def test_results_do_not_depend_on_the_number_of_threads():
    problem = make_boxes(rows=9)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            results.append(soft_nms_fixed(*problem, method="gaussian", max_output=30))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_ops
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operator_passes_opcheck(dtype):
    arguments = (*make_boxes(dtype=dtype), 1, 0.5, 0.5, 0.0001, 10)
    torch.library.opcheck(torch.ops.maskrcnn.soft_nms_fixed.default, arguments)


def test_bad_arguments_are_named():
    problem = make_boxes()
    for changes, message in (
        ({"method": "softest"}, "method 'softest' is unknown; choose one of"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"iou_threshold": 1.5}, "iou_threshold must lie in"),
        ({"max_output": -1}, "max_output must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            soft_nms_fixed(*problem, **{"method": "linear", "max_output": 5, **changes})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_cuda_agrees_with_the_cpu(method):
    problem = make_boxes(rows=4, count=1500)
    rule = {"method": method, "max_output": 200}
    expected = soft_nms_fixed(*problem, **rule)
    found = soft_nms_fixed(*(part.cuda() for part in problem), **rule)
    assert torch.equal(found[0].cpu(), expected[0])
    torch.testing.assert_close(found[1].cpu(), expected[1], rtol=1e-12, atol=0)
    assert torch.equal(found[2].cpu(), expected[2])
