"""One iteration of training: from a batch to changed weights, and the numbers that say how it went.

Nothing in here waits for a GPU: the numbers stay on the device.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from maskrcnn_lib.checkpoint.native import bare_model
from maskrcnn_lib.engine.batch import Part, split
from maskrcnn_lib.engine.cast_weights import call_with_cast_weights
from maskrcnn_lib.solver.weight_average import WeightAverage
from maskrcnn_lib.utils.comm import get_world_size, sum_over_ranks

# How PyTorch begins its message when the machine's memory, not the GPU's, is used up.
_CPU_MEMORY_MESSAGES = ("can't allocate memory", "not enough memory", "DefaultCPUAllocator")


@dataclass(frozen=True)
class Outcome:
    """What an iteration gave, the same on all ranks.

    Attributes:
        names: of the losses.
        values: (len(names) + 3,) float32 on the model's device: each loss and their sum, averaged
            over the ranks; the number of ranks that were asked to stop; the norm of all gradients.
    """

    names: tuple[str, ...]
    values: Tensor


class TrainingStep:
    """Forward, backward and update.

    Args:
        model: ``model(images, targets)`` gives a dict of scalar losses whose mean over the ranks is
            the loss of the whole batch; with ``seeds=`` where the loader gives seeds.
        optimizer, scheduler: step once per call.
        device: of the model.
        dtype: of the network's arithmetic; other than float32 runs under autocast.
        scaler: of the loss, for float16.
        parts: how many parts of the batch go through the model one after the other.
        clip_gradients: largest norm of all gradients together; 0 for no limit.
        average: follows the model's weights.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        scaler: torch.amp.GradScaler | None = None,
        parts: int = 1,
        clip_gradients: float = 0.0,
        average: WeightAverage | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.device = device
        self.dtype = dtype
        self.scaler = scaler
        self.parts = parts
        self.clip_gradients = clip_gradients
        self.average = average

    def gradients(self, batch: Sequence[Any], *, stop: bool = False) -> Outcome:
        """Computes the gradients of a batch and clips them.

        Args:
            batch: what the loader gives.
            stop: whether this process was asked to end.

        Raises:
            MemoryError: the memory does not suffice; the message says what to change.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with _memory_advice(batch[0].tensors, batch[1]):
            parts = list(split(batch, self.parts, self.device))
            results = [self._backward(part, is_last=part is parts[-1]) for part in parts]
        names, losses = results[0]
        for _, values in results[1:]:
            losses = losses + values
        asked = losses.new_full((1,), float(stop) * get_world_size())  # new_tensor would wait
        values = sum_over_ranks(torch.cat([losses, losses.sum()[None], asked])) / get_world_size()
        return Outcome(names, torch.cat([values, self._clipped_norm()[None].to(values)]))

    def update(self) -> None:
        """Changes the weights by the gradients, and goes on in the schedule."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.scheduler.step()
        if self.average is not None:
            self.average.update(bare_model(self.model))

    def _backward(self, part: Part, *, is_last: bool) -> tuple[tuple[str, ...], Tensor]:
        """Names and values of the losses of a part, which count as much as the part is large."""
        with self._exchange(is_last):
            losses = self._losses(part)
            names = tuple(sorted(losses))
            values = torch.stack([losses[name] for name in names]) * part.share
            loss = values.sum()
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return names, values.detach().float()

    def _losses(self, part: Part) -> dict[str, Tensor]:
        given = {} if part.seeds is None else {"seeds": part.seeds}
        if self.dtype == torch.float32:
            return self.model(part.images, part.targets, **given)
        with torch.autocast(self.device.type, dtype=self.dtype):
            return call_with_cast_weights(
                self.model, self.dtype, part.images, part.targets, **given
            )

    def _clipped_norm(self) -> Tensor:
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        trained = [
            value
            for group in self.optimizer.param_groups
            for value in group["params"]
            if value.grad is not None
        ]
        norm = torch.nn.utils.get_total_norm([value.grad for value in trained])
        if self.clip_gradients:
            torch.nn.utils.clip_grads_with_norm_(trained, self.clip_gradients, norm)
        return norm.detach()

    def _exchange(self, is_last: bool) -> AbstractContextManager:
        """Ranks exchange gradients once per iteration, after its last part."""
        if isinstance(self.model, DistributedDataParallel) and not is_last:
            return self.model.no_sync()
        return nullcontext()


@contextmanager
def _memory_advice(images: Tensor, targets: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_gpu = isinstance(error, torch.OutOfMemoryError)
        if not is_gpu and not any(text in str(error) for text in _CPU_MEMORY_MESSAGES):
            raise
        objects = [len(target) for target in targets]
        raise MemoryError(
            f"the memory of {'the GPU' if is_gpu else 'this machine'} does not suffice for "
            f"{len(images)} images of {images.shape[2]} x {images.shape[3]} pixels with {objects} "
            "objects. What helps: SOLVER.ACCUMULATE 2 (or more: the images go through in parts), "
            "DTYPE bfloat16, a smaller INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN, fewer "
            "SOLVER.IMS_PER_BATCH, MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE or "
            f"MODEL.RPN.POST_NMS_TOP_N_TRAIN ({error})"
        ) from error
