"""The matcher: thresholds, low-quality matches, and its corner cases."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maskrcnn_lib.modeling import matcher as matcher_module
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.structures.boxlist_ops import pairwise_iou

QUALITY = torch.tensor(
    [
        [0.80, 0.10, 0.40, 0.00, 0.20],
        [0.10, 0.60, 0.45, 0.00, 0.25],
    ]
)


def test_thresholds_separate_match_between_and_background():
    assert Matcher(0.7, 0.3)(QUALITY).tolist() == [0, -2, -2, -1, -1]


def test_equal_thresholds_leave_nothing_between():
    assert Matcher(0.5, 0.5)(QUALITY).tolist() == [0, 1, -1, -1, -1]


def test_low_quality_matches_give_every_element_its_best_prediction():
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    assert matcher(QUALITY).tolist() == [0, 1, -2, -1, -1]


def test_a_prediction_that_is_best_for_one_element_keeps_its_own_best_element():
    quality = torch.tensor([[0.2, 0.0], [0.5, 0.6]])
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    # Prediction 0 is element 0's best, but overlaps element 1 more.
    assert matcher(quality).tolist() == [1, 1]


def test_an_element_that_overlaps_nothing_makes_no_match():
    quality = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.9, 0.4]])
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    assert matcher(quality).tolist() == [-1, 1, -2]


def test_agrees_with_torchvision_where_all_elements_overlap_something():
    from torchvision.models.detection._utils import Matcher as Peer

    quality = torch.rand(7, 200, generator=torch.Generator().manual_seed(0))
    for low_quality in (False, True):
        ours = Matcher(0.97, 0.9, allow_low_quality_matches=low_quality)(quality)
        peer = Peer(0.97, 0.9, allow_low_quality_matches=low_quality)(quality)
        assert ours.tolist() == peer.tolist()


@pytest.mark.parametrize("low_quality", [False, True])
def test_without_elements_everything_is_background(low_quality):
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)
    assert matcher(torch.zeros(0, 3)).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("low_quality", [False, True])
def test_without_predictions_the_result_is_empty(low_quality):
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)
    result = matcher(torch.zeros(2, 0))
    assert result.shape == (0,)
    assert result.dtype == torch.int64


def test_a_batch_equals_its_parts():
    quality = torch.rand(3, 4, 50, generator=torch.Generator().manual_seed(1))
    matcher = Matcher(0.9, 0.6, allow_low_quality_matches=True)
    batched = matcher(quality)
    for i in range(3):
        assert batched[i].tolist() == matcher(quality[i]).tolist()


def test_crossed_thresholds_are_refused():
    with pytest.raises(ValueError, match="must not exceed"):
        Matcher(0.3, 0.7)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("low_quality", [False, True])
def test_blocks_give_what_the_whole_matrix_gives(monkeypatch, low_quality, shared):
    generator = torch.Generator().manual_seed(2)

    def random_boxes(*shape):
        corners = torch.randint(0, 40, (*shape, 2, 2), generator=generator).float()
        boxes = torch.cat((corners.amin(dim=-2), corners.amax(dim=-2) + 4), dim=-1)
        return boxes

    elements, boxes = random_boxes(3, 6), random_boxes(200) if shared else random_boxes(3, 200)
    elements[0, 4:] = 0  # unused slots
    elements[2] = 0
    whole = Matcher(0.6, 0.3, allow_low_quality_matches=low_quality)
    expected = whole(pairwise_iou(elements, boxes.expand(3, -1, -1)))
    assert (expected >= 0).any()
    for cells in (1, 300, 1 << 20):
        monkeypatch.setitem(matcher_module.BLOCK_CELLS, "cpu", cells)
        assert whole.match_boxes(elements, boxes).tolist() == expected.tolist()
    assert (expected[2] == -1).all()


def test_boxes_without_elements_are_background():
    matches = Matcher(0.5, 0.5).match_boxes(torch.zeros(2, 0, 4), torch.rand(7, 4))
    assert matches.tolist() == [[-1] * 7] * 2


def test_a_thousand_elements_need_little_memory():
    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            result = operator(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and not operator.is_view:
                self.numbers = max(self.numbers, result.numel())
            return result

    elements = torch.rand(1, 1000, 4) * 400
    elements[..., 2:] += elements[..., :2]
    boxes = torch.rand(100_000, 4) * 400
    boxes[:, 2:] += boxes[:, :2]
    with Largest() as largest:
        Matcher(0.7, 0.3, allow_low_quality_matches=True).match_boxes(elements, boxes)
    assert largest.numbers < 1e6  # one matrix of all overlaps would have 100 million
