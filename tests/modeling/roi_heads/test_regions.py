"""The regions that the heads learn from."""

import torch

from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.outputs import Proposals
from maskrcnn_lib.modeling.roi_heads.regions import (
    RegionSampler,
    all_rows,
    positive_rows,
    repeat_positives,
)
from maskrcnn_lib.modeling.targets import Targets


def make_case():
    """Two images: one with two objects and six proposals, one without objects and two."""
    truth = torch.tensor([[10.0, 10, 50, 50], [60, 60, 90, 95]])
    proposals = torch.zeros(2, 6, 4)
    proposals[0] = torch.tensor(
        [
            [12.0, 10, 50, 50],  # object 0
            [60, 62, 90, 95],  # object 1
            [0, 0, 15, 15],  # background
            [55, 55, 75, 80],  # background
            [10, 10, 50, 32],  # object 0, IoU .55
            [10, 10, 50, 28],  # background, IoU .45
        ]
    )
    proposals[1, :2] = torch.tensor([[0.0, 0, 20, 20], [5, 5, 40, 40]])
    valid = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    targets = Targets(
        torch.stack((truth, torch.zeros(2, 4))),
        torch.tensor([[7, 3], [0, 0]]),
        torch.tensor([[True, True], [False, False]]),
        torch.tensor([1, 2]),
    )
    return Proposals(proposals, valid.float(), valid), targets


def sample(batch_size=8, fraction=1.0):
    proposals, targets = make_case()
    sampler = RegionSampler(Matcher(0.5, 0.5), batch_size=batch_size, positive_fraction=fraction)
    return sampler(proposals, targets)


def test_proposals_and_ground_truth_get_the_labels_of_their_objects():
    regions = sample()
    found = {
        tuple(box): (label, matched)
        for box, label, matched in zip(
            regions.boxes[0].tolist(),
            regions.labels[0].tolist(),
            regions.matched[0].tolist(),
            strict=True,
        )
    }
    assert found == {
        (12.0, 10, 50, 50): (7, 0),
        (60.0, 62, 90, 95): (3, 1),
        (10.0, 10, 50, 32): (7, 0),
        (10.0, 10, 50, 50): (7, 0),
        (60.0, 60, 90, 95): (3, 1),
        (0.0, 0, 15, 15): (0, 0),
        (55.0, 55, 75, 80): (0, 0),
        (10.0, 10, 50, 28): (0, 0),
    }
    assert regions.labels[0].gt(0).tolist() == [True] * 5 + [False] * 3


def test_the_hardest_regions_of_each_kind_are_taken():
    proposals, targets = make_case()
    sampler = RegionSampler(Matcher(0.5, 0.5), batch_size=4, positive_fraction=0.5, hardest=True)

    def difficulty(regions):
        """The loss of a region is its left edge, a tenth of it in the second image."""
        return regions.boxes[..., 0] / torch.tensor([[1.0], [10.0]])

    regions = sampler(proposals, targets, difficulty=difficulty)
    # Of five positives the two from 60, of three negatives that from 55 and, next to it, from 10.
    assert regions.boxes[0, :, 0].tolist() == [60, 60, 55, 10]
    assert regions.labels[0].tolist() == [3, 3, 0, 0]
    assert regions.matched[0].tolist() == [1, 1, 0, 0]
    assert regions.most_positive == 2
    assert regions.valid.tolist() == [[True] * 4, [True, True, False, False]]
    assert regions.boxes[1, :2, 0].tolist() == [5, 0]
    assert regions.labels[1].sum() == 0


def test_an_image_without_objects_gives_background():
    regions = sample()
    assert regions.valid[1].tolist() == [True, True] + [False] * 6
    assert regions.labels[1].sum() == 0
    assert sorted(regions.boxes[1, :2].tolist()) == [[0, 0, 20, 20], [5, 5, 40, 40]]


def test_no_more_positives_than_their_share():
    regions = sample(batch_size=8, fraction=0.25)
    assert regions.most_positive == 2
    assert (regions.labels > 0).sum(dim=1).tolist() == [2, 0]
    assert regions.valid.sum(dim=1).tolist() == [5, 2]


def test_rows_are_the_used_slots_of_all_images():
    regions = sample(batch_size=8, fraction=0.25)
    rows = all_rows(regions)
    assert rows.valid.all()
    assert rows.rois[:, 0].tolist() == [0] * 5 + [1] * 2
    assert rows.rois[:5, 1:].tolist() == regions.boxes[0, :5].tolist()
    assert rows.positions.tolist() == [0, 1, 2, 3, 4, 8, 9]
    positive = positive_rows(regions)
    assert positive.positions.tolist() == [0, 1]
    assert positive.labels.tolist() == regions.labels[0, :2].tolist()


def test_without_positives_one_row_fills_up():
    proposals, targets = make_case()
    sampler = RegionSampler(Matcher(0.5, 0.5))
    only_second = sampler(
        Proposals(*(field[1:] for field in proposals)),
        targets._replace(
            boxes=targets.boxes[1:],
            labels=targets.labels[1:],
            valid=targets.valid[1:],
            seeds=targets.seeds[1:],
        ),
    )
    rows = positive_rows(only_second)
    assert rows.valid.tolist() == [False]
    assert rows.labels.tolist() == [0]


def test_a_fixed_number_of_slots_repeats_the_positives():
    positive = torch.tensor([[True, True, True, False], [False] * 4, [True] * 4])
    positions, counts = repeat_positives(positive, 5)
    assert positions.view(3, 5).tolist() == [[0, 1, 2, 0, 1], [4] * 5, [8, 9, 10, 11, 8]]
    assert counts.view(3, 5).tolist() == [
        [True, True, True, False, False],
        [False] * 5,
        [True, True, True, True, False],
    ]
