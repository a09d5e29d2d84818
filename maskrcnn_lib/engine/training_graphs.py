"""A backbone's training through CUDA graphs (``MODEL.CUDA_GRAPHS``)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from maskrcnn_lib.engine.cuda_graphs import (
    MOST_SHAPES,
    Recordings,
    shape_key,
    without_autocast_cache,
)
from maskrcnn_lib.layers.remembered import noting_what_is_used

logger = logging.getLogger(__name__)


class GraphedBackbone:
    """A backbone's forward and backward pass in training through CUDA graphs.

    Stands in for ``backbone.forward``. A graph knows weights by their places in memory: after
    somebody gave a parameter another one, or changed a buffer, it is recorded anew. Gradients of
    weights lie in the graph's memory until the next pass, so one pass must follow each
    ``zero_grad(set_to_none=True)``, not several (``SOLVER.ACCUMULATE``).

    Args:
        backbone: maps (N, 3, H, W) to a list of maps; not called itself by others.
        most_shapes: further shapes are run without graphs.
    """

    def __init__(self, backbone: nn.Module, *, most_shapes: int = MOST_SHAPES) -> None:
        self._backbone = backbone
        self._forward = backbone.forward
        self._recorded: Recordings[_RecordedTraining] = Recordings(most_shapes)
        self._state: tuple = ()

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Maps of the batch (N, 3, H, W); overwritten by the next call of the same shape."""
        if not (x.is_cuda and torch.is_grad_enabled() and self._backbone.training):
            return self._forward(x)
        trained = {
            name: value for name, value in self._backbone.named_parameters() if value.requires_grad
        }
        state = self._state_of_weights(trained)
        if state != self._state:
            self._recorded.clear()
            self._state = state
        recorded = self._recorded.find_or_record(shape_key(x), lambda: self._record(x, trained))
        if recorded is None:
            return self._forward(x)
        return list(_Replay.apply(recorded, x, *trained.values()))

    def __deepcopy__(self, memo: dict) -> "GraphedBackbone":
        return GraphedBackbone(memo[id(self._backbone)], most_shapes=self._recorded.most)

    def _record(self, x: Tensor, trained: Mapping[str, Tensor]) -> "_RecordedTraining":
        # Recorded with other names for the same memory: what autograd knows about the weights
        # themselves, such as whom DistributedDataParallel sends their gradients to, belongs to
        # another stream than that of the recording.
        aliases = [value.detach().requires_grad_() for value in trained.values()]
        trunk = _Trunk(self._backbone, self._forward)
        named = {f"backbone.{name}": alias for name, alias in zip(trained, aliases, strict=True)}

        def run(x: Tensor) -> tuple[Tensor, ...]:
            return torch.func.functional_call(trunk, named, (x,))

        sample = x.detach().clone(memory_format=torch.preserve_format)
        recorded = _RecordedTraining(run, sample, aliases)
        logger.info("CUDA graph %d, for images of %s", len(self._recorded) + 1, tuple(x.shape))
        return recorded

    def _state_of_weights(self, trained: Mapping[str, Tensor]) -> tuple:
        """Changes when weights move to other memory, or constants change."""
        frozen = [value for value in self._backbone.parameters() if not value.requires_grad]
        constants = [*frozen, *self._backbone.buffers()]
        return (
            tuple(value.data_ptr() for value in trained.values()),
            tuple(value.data_ptr() for value in constants),
            tuple(value._version for value in constants),
        )


class _Trunk(nn.Module):
    """A backbone without its graphs."""

    def __init__(self, backbone: nn.Module, run: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.backbone = backbone
        self._run = run

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._run(x))


class _RecordedTraining:
    """A forward and a backward graph.

    Args:
        run: what is recorded.
        x: its input; batches are copied there.
        weights: leaves of autograd; the gradients that are recorded are theirs.
    """

    def __init__(
        self, run: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, weights: list[Tensor]
    ) -> None:
        self.x = x
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.device(x.device), without_autocast_cache(), noting_what_is_used() as used:
            self._used = used  # what the graphs read besides weights and inputs
            self._warm_up(run, weights)
            # Other threads, such as the one that pins the loader's batches, may go on meanwhile.
            settings = {"capture_error_mode": "thread_local"}
            with torch.cuda.graph(self._forward, **settings):
                maps = run(x)
            self._slopes = [torch.empty_like(each) for each in maps]
            with torch.cuda.graph(self._backward, pool=self._forward.pool(), **settings):
                grads = torch.autograd.grad(maps, weights, self._slopes, allow_unused=True)
        self._maps = tuple(each.detach() for each in maps)
        self._grads = grads

    def _warm_up(self, run: Callable[[Tensor], tuple[Tensor, ...]], weights: list[Tensor]) -> None:
        """What libraries prepare at their first call on a stream must not be recorded."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                maps = run(self.x)
                slopes = [torch.zeros_like(each) for each in maps]
                torch.autograd.grad(maps, weights, slopes, allow_unused=True)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.x.copy_(x)
        self._forward.replay()
        return tuple(each.detach() for each in self._maps)

    def backward(self, slopes: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        torch._foreach_copy_(self._slopes, list(slopes))
        self._backward.replay()
        return tuple(None if grad is None else grad.detach() for grad in self._grads)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, recorded: _RecordedTraining, x: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.recorded = recorded
        return recorded.forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.recorded.backward(slopes)


def graph_backbone(backbone: nn.Module) -> None:
    """Lets a backbone train through CUDA graphs, from now on and in place."""
    backbone.forward = GraphedBackbone(backbone)
