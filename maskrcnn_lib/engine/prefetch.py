"""Brings the next batch's images to the GPU while it works on this one's."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch

Given = TypeVar("Given")
Sent = TypeVar("Sent")
Received = TypeVar("Received")


def prefetched(batches: Iterable[Sequence[Any]], device: torch.device) -> Iterator[Sequence[Any]]:
    """Yields what the loader gives; on a GPU with the images there already.

    The copies run on a stream of their own, beside the arithmetic, and the host waits for none of
    them where the loader pins its memory. A GPU holds the images of two batches at a time.

    Args:
        batches: see ``engine.batch``.
        device: of the model.
    """
    if device.type != "cuda":
        return iter(batches)
    stream = torch.cuda.Stream(device)

    def send(batch: Sequence[Any]) -> tuple[Sequence[Any], torch.cuda.Event]:
        with torch.cuda.stream(stream):
            images = batch[0].tensors.to(
                device, memory_format=torch.channels_last, non_blocking=True
            )
            sent = stream.record_event()
        return (batch[0].with_tensors(images), *batch[1:]), sent

    def receive(item: tuple[Sequence[Any], torch.cuda.Event]) -> Sequence[Any]:
        batch, sent = item
        current = torch.cuda.current_stream(device)
        current.wait_event(sent)
        batch[0].tensors.record_stream(current)  # or its memory could be used again too early
        return batch

    return one_ahead(batches, send, receive)


def one_ahead(
    items: Iterable[Given], send: Callable[[Given], Sent], receive: Callable[[Sent], Received]
) -> Iterator[Received]:
    """Yields ``receive(send(item))`` of each item, and sends the next one before."""
    waiting: list[Sent] = []
    for item in items:
        waiting.append(send(item))
        if len(waiting) > 1:
            yield receive(waiting.pop(0))
    for sent in waiting:
        yield receive(sent)
