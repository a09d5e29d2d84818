"""CUDA graphs: the launches of a network recorded once per size of batch, and replayed as one.

A small batch keeps the host busier than the GPU: an eager forward pass of Mask R-CNN gives it some
600 kernels of 10 us each. A graph is for tensors of one shape at fixed places in memory, so inputs
are copied into those of the graph, and batches of other shapes run as before until they come again.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from maskrcnn_lib.layers.remembered import noting_what_is_used
from maskrcnn_lib.modeling.outputs import Detections, Proposals
from maskrcnn_lib.structures.image_list import ImageList

logger = logging.getLogger(__name__)

# How often a shape comes before it gets a graph: recording takes as long as a few passes, and
# the first passes make what later ones find ready.
SEEN_BEFORE = 2
# Each graph has its results in memory of its own.
MOST_SHAPES = 8

Results = Detections | Proposals
Recorded = TypeVar("Recorded")


class Recordings(dict[tuple, Recorded]):
    """What was recorded, by ``shape_key``.

    Args:
        most: shapes that are recorded; further ones run without graphs.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self._seen: Counter[tuple] = Counter()

    def find_or_record(self, key: tuple, record: Callable[[], Recorded]) -> Recorded | None:
        """The recording of a shape, made now if it has come often enough; None: run it plainly.

        What cannot be recorded once is not tried again, and a warning says why.
        """
        if key in self:
            return self[key]
        self._seen[key] += 1
        if self._seen[key] <= SEEN_BEFORE or len(self) >= self.most:
            return None
        try:
            self[key] = record()
        except RuntimeError as error:
            self.most = 0
            logger.warning(
                "this model goes on without CUDA graphs, as it cannot be recorded: %s", error
            )
            return None
        return self[key]


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    images: ImageList
    sizes: Tensor
    results: Results
    used: list[object]  # what the graph reads besides weights and inputs


class GraphedDetection:
    """``model.detect`` through CUDA graphs: the same results, with one launch per batch.

    Args:
        detect: maps an ImageList on a GPU to batched results, without waiting for the GPU.
        most_shapes: further shapes are run without graphs.
    """

    def __init__(
        self, detect: Callable[[ImageList], Results], *, most_shapes: int = MOST_SHAPES
    ) -> None:
        self._detect = detect
        self._recorded: Recordings[_Recorded] = Recordings(most_shapes)
        self._pool: Any = None
        self._lock = threading.Lock()

    def __call__(self, images: ImageList) -> Results:
        """Batched results, for whoever calls alone: the next call does not overwrite them."""
        if not images.tensors.is_cuda or images.proposals is not None or torch.is_grad_enabled():
            return self._detect(images)
        with self._lock:
            recorded = self._recorded.find_or_record(
                shape_key(images.tensors), lambda: self._record(images)
            )
            return self._detect(images) if recorded is None else _replay(recorded, images)

    def _record(self, images: ImageList) -> _Recorded:
        tensors = images.tensors.clone(memory_format=torch.preserve_format)
        own = images.with_tensors(tensors)
        sizes = own.size_tensor()
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(tensors.device)
        with (
            torch.cuda.device(tensors.device),
            without_autocast_cache(),
            noting_what_is_used() as used,
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            results = self._detect(own)
        return _Recorded(graph, own, sizes, results, used)


def _replay(recorded: _Recorded, images: ImageList) -> Results:
    recorded.images.tensors.copy_(images.tensors)
    recorded.sizes.copy_(images.size_tensor())
    recorded.graph.replay()
    results = recorded.results
    return type(results)(*(None if field is None else field.clone() for field in results))


def without_autocast_cache() -> AbstractContextManager:
    """Autocast as it is, but without keeping casts: those of a graph live in its memory."""
    return torch.autocast(
        "cuda",
        dtype=torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,
    )


def shape_key(x: Tensor) -> tuple:
    """What a graph is for: shape, memory format, dtypes and device of a batch."""
    enabled = torch.is_autocast_enabled("cuda")
    dtype = torch.get_autocast_dtype("cuda") if enabled else None
    return tuple(x.shape), x.stride(), x.dtype, x.device, dtype
