"""Batches take the size that the config gives them."""

import pytest
import torch

from maskrcnn_lib.data.collate import BatchCollator, TransformedSample
from maskrcnn_lib.structures.bounding_box import BoxList


def make_sample(height, width):
    image = torch.ones(3, height, width)
    return TransformedSample(image, BoxList(torch.zeros(0, 4), (width, height)), 0, 0)


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ([(40, 60)], (48, 64)),
        ([(40, 60), (30, 70)], (64, 96)),  # the smaller one is not wide enough
        ([(60, 40)], (64, 48)),
        ([(65, 40)], (65, 40)),  # none holds it
    ],
)
def test_a_batch_takes_the_smallest_listed_size_that_holds_it(sizes, expected):
    collate = BatchCollator(pad_to=[[64, 96], [48, 64], [64, 48]])
    images = collate([make_sample(*size) for size in sizes]).images
    assert images.tensors.shape[2:] == expected
    assert images.image_sizes == sizes
    for pixels, (height, width) in zip(images.tensors, sizes, strict=True):
        assert pixels.sum() == 3 * height * width
        assert (pixels[:, :height, :width] == 1).all()


def test_multiples_hold_as_well():
    collate = BatchCollator(32, pad_to=[[50, 70]])
    assert collate([make_sample(10, 10)]).images.tensors.shape[2:] == (64, 96)


@pytest.mark.parametrize("wrong", [[800, 1344], [[800]], [[0, 5]]])
def test_other_things_than_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"DATALOADER\.PAD_TO holds .*expected \[height, width\]"):
        BatchCollator(pad_to=wrong)
