"""Ground truth of a batch: padding, and what is said of ground truth that cannot be used."""

import pytest
import torch

from maskrcnn_lib.modeling.targets import batch_targets

SIZES = [(96, 96), (96, 96)]
CPU = torch.device("cpu")


def batch(targets, sizes=SIZES, *, num_classes=4, with_masks=True, seeds=None):
    return batch_targets(
        targets, sizes, device=CPU, num_classes=num_classes, with_masks=with_masks, seeds=seeds
    )


def test_images_are_padded_to_the_fullest(make_target):
    two = make_target([[0, 0, 10, 10], [5, 5, 20, 30]], [1, 3])
    none = make_target([], [])
    result = batch([none, two], seeds=[3, -4])
    assert result.boxes.shape == (2, 2, 4)
    assert result.valid.tolist() == [[False, False], [True, True]]
    assert result.labels.tolist() == [[0, 0], [1, 3]]
    assert result.boxes[1].tolist() == two.bbox.tolist()
    assert result.boxes[0].abs().sum() == 0
    assert result.seeds.tolist() == [3, -4]
    assert [len(masks) for masks in result.masks] == [0, 2]


def test_boxes_of_either_mode_are_taken(make_target):
    target = make_target([[4, 5, 10, 20]], [1])
    result = batch([target.convert("xywh"), target])
    assert result.boxes[0].tolist() == result.boxes[1].tolist() == [[4, 5, 10, 20]]


def test_no_objects_at_all(make_target):
    result = batch([make_target([], [])] * 2)
    assert result.boxes.shape == (2, 0, 4)
    assert result.valid.shape == (2, 0)


def test_seeds_follow_the_global_generator_where_none_are_given(make_target):
    targets = [make_target([], [])] * 2
    torch.manual_seed(1)
    first = batch(targets).seeds
    torch.manual_seed(1)
    assert batch(targets).seeds.tolist() == first.tolist()
    assert batch(targets).seeds.tolist() != first.tolist()


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[0, 0, 9, 9], [5, 5, 5, 9]], [1, 1], "target 1: box 1 is .*no area"),
        ([[0, 0, 9, 9], [5, 5, float("nan"), 9]], [1, 1], "target 1: box 1"),
        ([[0, 0, 9, float("inf")]], [1], "target 1: box 0"),
        ([[0, 0, 9, 9]], [4], r"label 4 of box 0 is not in 1..3.*NUM_CLASSES"),
        ([[0, 0, 9, 9]], [0], "label 0 of box 0"),
    ],
)
def test_impossible_values_are_named(make_target, boxes, labels, message):
    good = make_target([[0, 0, 9, 9]], [1])
    bad = make_target([[0, 0, 9, 9]] * len(boxes), labels)
    bad.bbox = torch.tensor(boxes, dtype=torch.float32)
    with pytest.raises(ValueError, match=message):
        batch([good, bad])


def test_a_target_of_another_size_is_named(make_target):
    target = make_target([[0, 0, 9, 9]], [1])
    with pytest.raises(ValueError, match=r"target 1 is for an image of 96 x 96.* 80 x 96"):
        batch([target, target], [(96, 96), (96, 80)])


def test_a_missing_field_is_named(make_target):
    target = make_target([[0, 0, 9, 9]], [1]).copy_with_fields(["labels"])
    assert batch([target, target], with_masks=False).masks is None
    with pytest.raises(KeyError, match="target 0 has no field 'masks'"):
        batch([target, target])


def test_numbers_that_do_not_fit_are_refused(make_target):
    target = make_target([], [])
    with pytest.raises(ValueError, match="1 targets for 2 images"):
        batch([target])
    with pytest.raises(ValueError, match="seeds must be 2 integers"):
        batch([target, target], seeds=[1])
