"""Batches of images: padding, sizes, what is refused."""

import pytest
import torch

from maskrcnn_lib.structures.image_list import ImageList, to_image_list


def images():
    return [torch.rand(3, 5, 7), torch.rand(3, 9, 4)]


@pytest.mark.parametrize("divisor, height, width", [(0, 9, 7), (1, 9, 7), (4, 12, 8), (32, 32, 32)])
def test_images_stand_top_left_and_the_rest_is_zero(divisor, height, width):
    inputs = images()
    batch = to_image_list(inputs, divisor)
    assert batch.tensors.shape == (2, 3, height, width)
    assert batch.image_sizes == [(5, 7), (9, 4)] and len(batch) == 2
    for slot, image in zip(batch.tensors, inputs, strict=True):
        assert torch.equal(slot[:, : image.shape[1], : image.shape[2]], image)
        assert slot.sum().isclose(image.sum(), rtol=1e-5)
        assert (slot != 0).sum() == (image != 0).sum()


def test_batch_of_several_is_channels_last():
    assert to_image_list(images()).tensors.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8)])
def test_tensor_that_fits_is_not_copied(shape):
    tensor = torch.rand(shape)
    batch = to_image_list(tensor, 4)
    assert batch.tensors.data_ptr() == tensor.data_ptr()
    assert batch.image_sizes == [(8, 8)] * (shape[0] if len(shape) == 4 else 1)


def test_batch_and_image_list_are_padded_further():
    batch = to_image_list(torch.ones(2, 3, 5, 7), 8)
    assert batch.tensors.shape == (2, 3, 8, 8) and batch.tensors.sum() == 2 * 3 * 5 * 7
    assert (batch.tensors[:, :, :5, :7] == 1).all()
    again = to_image_list(batch, 16)
    assert again.tensors.shape == (2, 3, 16, 16) and again.image_sizes == [(5, 7), (5, 7)]
    assert to_image_list(batch, 8).tensors is batch.tensors


def test_to_changes_dtype_and_keeps_sizes():
    moved = to_image_list(images()).to(torch.bfloat16)
    assert moved.tensors.dtype == torch.bfloat16 and moved.image_sizes == [(5, 7), (9, 4)]


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        ([], ValueError, "at least one"),
        ([torch.rand(3, 5, 5), torch.rand(1, 5, 5)], ValueError, "image 1 has 1 channels"),
        ([torch.rand(3, 5, 5), torch.rand(3, 5, 5).half()], ValueError, "float16"),
        ([torch.rand(5, 5)], ValueError, "image 0"),
        ([[1.0]], TypeError, "image 0 is list"),
        (torch.rand(5, 5), ValueError, "expected"),
        ("image.jpg", TypeError, "str"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        to_image_list(wrong)


def test_sizes_that_do_not_fit_the_batch_are_refused():
    with pytest.raises(ValueError, match="larger than the batch"):
        ImageList(torch.zeros(1, 3, 4, 8), [(8, 4)])
    with pytest.raises(ValueError, match="2 image sizes for a batch of 1"):
        ImageList(torch.zeros(1, 3, 4, 8), [(4, 8), (4, 8)])
    with pytest.raises(ValueError, match="N, C, H, W"):
        ImageList(torch.zeros(3, 4, 8), [(4, 8)])
