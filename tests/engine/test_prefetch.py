"""The next batch is on its way before this one is worked on, and none is lost."""

import pytest
import torch

from maskrcnn_lib.engine.prefetch import one_ahead, prefetched
from maskrcnn_lib.structures.image_list import ImageList
from maskrcnn_lib.utils.transfer import send


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_each_item_is_sent_before_the_one_before_it_is_used(count):
    events = []
    for item in one_ahead(
        range(count),
        lambda item: events.append(("send", item)) or item,
        lambda item: events.append(("receive", item)) or item,
    ):
        events.append(("use", item))
    for name in ("send", "receive", "use"):
        assert [item for event, item in events if event == name] == list(range(count))
    for item in range(count - 1):
        assert events.index(("send", item + 1)) < events.index(("receive", item))
    for item in range(count - 2):  # no more than two at a time
        assert events.index(("use", item)) < events.index(("send", item + 2))


def test_batches_reach_the_cpu_as_they_are():
    batches = [(object(), []), (object(), [])]
    assert list(prefetched(batches, torch.device("cpu"))) == batches


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_images_reach_the_gpu_unchanged():
    batches = [
        (ImageList(torch.rand(2, 3, 64, 96).pin_memory(), [(64, 96), (60, 80)]), [], [number])
        for number in range(4)
    ]
    for given, got in zip(batches, prefetched(batches, torch.device("cuda")), strict=True):
        assert got[0].tensors.is_cuda
        assert torch.equal(got[0].tensors.cpu(), given[0].tensors)
        assert got[0].image_sizes == given[0].image_sizes
        assert got[2] == given[2]


def test_sending_changes_the_device_alone():
    tensor = torch.arange(6).reshape(2, 3)
    assert send(tensor, "cpu") is tensor
    assert send(tensor, torch.device("meta")).is_meta
