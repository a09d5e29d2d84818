"""The training loop: iterations, their log, checkpoints, evaluations, and orderly ends.

An iteration depends on the weights, the state of the optimizer and its own number alone: the loader
gives batch number n for iteration n, and all generators are seeded with (seed, n, rank). So a run
that is interrupted and resumed does what an uninterrupted one does.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint import Checkpointer
from maskrcnn_lib.checkpoint.native import bare_model
from maskrcnn_lib.engine.batch import describe_images, dump_batch
from maskrcnn_lib.engine.events import EventLog, open_event_log
from maskrcnn_lib.engine.prefetch import prefetched
from maskrcnn_lib.engine.progress import log_line, progress_bar, used_memory
from maskrcnn_lib.engine.step import Outcome, TrainingStep
from maskrcnn_lib.engine.termination import Termination
from maskrcnn_lib.utils.comm import gather, get_rank, is_main_process, sum_over_ranks
from maskrcnn_lib.utils.metric_logger import MetricLogger
from maskrcnn_lib.utils.random import hash_integers

logger = logging.getLogger(__name__)

Evaluate = Callable[[nn.Module], Mapping[str, float]]

_RANDOM_STREAM = -3  # tells these seeds from those of the data
# Under float16 an infinite gradient halves the scale of the loss and skips the update. From the
# first scale, 2^16, so many in a row lead far below 1: something else is wrong then.
_MOST_OVERFLOWS = 40


class NonFiniteError(FloatingPointError):
    """A loss or a gradient is not a number, or infinite."""


@dataclass(frozen=True)
class Periods:
    """Iterations between ...

    Attributes:
        checkpoint: checkpoints; 0: only at the end.
        test: evaluations; 0: only at the end.
        log: log lines.
    """

    checkpoint: int = 0
    test: int = 0
    log: int = 20


@dataclass
class _Running:
    """An iteration whose numbers the GPU may still be computing."""

    iteration: int
    names: tuple[str, ...]
    values: Tensor
    ready: torch.cuda.Event | None
    batch: Sequence[Any]
    rate: float
    data_seconds: float

    @classmethod
    def begin(
        cls, iteration: int, outcome: Outcome, batch: Sequence[Any], rate: float, seconds: float
    ) -> "_Running":
        values, ready = outcome.values.to("cpu", non_blocking=True), None
        if outcome.values.is_cuda:
            ready = torch.cuda.Event()
            ready.record()
        return cls(iteration, outcome.names, values, ready, batch, rate, seconds)

    def numbers(self) -> list[float]:
        """The values of :class:`Outcome`; waits for this iteration, not for later ones."""
        if self.ready is not None:
            self.ready.synchronize()
        return self.values.tolist()


def do_train(
    model: nn.Module,
    data_loader: Any,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    checkpointer: Checkpointer,
    device: torch.device | str,
    checkpoint_period: int,
    arguments: dict[str, Any],
    *,
    test_period: int = 0,
    log_period: int = 20,
    evaluate: Evaluate | None = None,
    dtype: torch.dtype = torch.float32,
    accumulate: int = 1,
    clip_gradients: float = 0.0,
    seed: int = 0,
) -> dict[str, float]:
    """Trains a model to the end of its loader; the positional arguments are maskrcnn-benchmark's.

    Files go to ``checkpointer.save_dir``: checkpoints, ``metrics.jsonl``, ``results.csv``, events
    for TensorBoard, and at the end ``model_final.pth`` and ``model_final.safetensors``.

    Args:
        model: on ``device``; ``model(images, targets)`` gives a dict of scalar losses.
        data_loader: has a length, the number of the last iteration, and yields batches (see
            ``engine.batch``) from iteration ``arguments["iteration"]`` on.
        checkpointer: its ``scaler`` and ``average`` take part in the training.
        arguments: plain values to store in checkpoints; ``iteration`` is the number of iterations
            done, and counted on.
        test_period: see :class:`Periods`, as for ``checkpoint_period`` and ``log_period``; each
            evaluation has a checkpoint before it.
        evaluate: takes a bare model and gives numbers such as ``val/segm/AP``. The model with the
            highest mean AP (of masks, else of boxes) is kept as ``model_best.pth``.
        dtype, accumulate, clip_gradients: see :class:`maskrcnn_lib.engine.step.TrainingStep`.
        seed: of what is random in the model.

    Returns:
        The last evaluation's numbers.

    Raises:
        NonFiniteError: a loss or gradient is not finite, on any rank; the batch was written to
            ``nonfinite_<iteration>_rank<r>.pth``, and no checkpoint was written after it.
        MemoryError: the memory does not suffice.
        SystemExit: with code 143, after SIGTERM came and a checkpoint was written.
        KeyboardInterrupt: the same after Ctrl-C; without a checkpoint after the second one.
    """
    step = TrainingStep(
        model,
        optimizer,
        scheduler,
        device=torch.device(device),
        dtype=dtype,
        scaler=checkpointer.scaler,
        parts=accumulate,
        clip_gradients=clip_gradients,
        average=checkpointer.average,
    )
    trainer = Trainer(
        step,
        data_loader,
        checkpointer,
        arguments,
        periods=Periods(checkpoint_period, test_period, log_period),
        evaluate=evaluate,
        seed=seed,
    )
    return trainer.run()


class Trainer:
    """The loop of :func:`do_train`, which explains the arguments."""

    def __init__(
        self,
        step: TrainingStep,
        data_loader: Any,
        checkpointer: Checkpointer,
        arguments: dict[str, Any],
        *,
        periods: Periods,
        evaluate: Evaluate | None,
        seed: int,
    ) -> None:
        self.step = step
        self.data_loader = data_loader
        self.checkpointer = checkpointer
        self.arguments = arguments
        self.periods = periods
        self.evaluate = evaluate
        self.seed = seed
        self.start_iter = int(arguments.setdefault("iteration", 0))
        self.max_iter = len(data_loader)
        self.meters = MetricLogger(delimiter="  ", window_size=periods.log)
        self.events = EventLog()
        self.scores: dict[str, float] = {}
        self._termination = Termination()
        self._running: deque[_Running] = deque()
        # A GPU works on one iteration while the host sees how the one before went.
        self._lag = 1 if step.device.type == "cuda" else 0
        self._overflows = 0
        self._allowed_overflows = 0 if step.scaler is None else _MOST_OVERFLOWS
        self._last_end = time.perf_counter()

    def run(self) -> dict[str, float]:
        """Trains to the end; see :func:`do_train`."""
        with ExitStack() as stack:
            stack.enter_context(self._termination)
            if is_main_process() and self.checkpointer.save_dir:
                self.events = open_event_log(self.checkpointer.save_dir, start_iter=self.start_iter)
                stack.enter_context(closing(self.events))
            self._evaluate_what_was_missed()
            if self.start_iter >= self.max_iter:
                logger.info("iteration %d of %d is done already", self.start_iter, self.max_iter)
                self.checkpointer.export("model_final")
                return self.scores
            logger.info("training from iteration %d to %d", self.start_iter, self.max_iter)
            bar = stack.enter_context(progress_bar(self.start_iter, self.max_iter))
            self.step.model.train()
            for iteration, batch in self._batches():
                self._iterate(iteration, batch)
                bar.update()
        replaced = getattr(getattr(self.data_loader, "dataset", None), "bad_images", 0)
        if replaced:
            logger.warning("%d times another image was taken in the place of a bad one", replaced)
        return self.scores

    def _batches(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """Numbers the loader's batches; the time that it takes is the data's."""
        self._last_end = time.perf_counter()
        iteration = self.start_iter
        batches = prefetched(self.data_loader, self.step.device)
        for iteration, batch in enumerate(batches, start=self.start_iter + 1):
            yield iteration, batch
        if iteration < self.max_iter:
            raise RuntimeError(
                f"the data loader ended after iteration {iteration}, but has a length of "
                f"{self.max_iter}"
            )

    def _iterate(self, iteration: int, batch: Sequence[Any]) -> None:
        data_seconds = time.perf_counter() - self._last_end
        seed_generators(hash_integers(self.seed, iteration, get_rank(), _RANDOM_STREAM))
        rate = self.step.optimizer.param_groups[0]["lr"]
        outcome = self.step.gradients(batch, stop=self._termination.requested)
        running = _Running.begin(iteration, outcome, batch, rate, data_seconds)
        self._running.append(running)
        stop = self._settle(self._lag)
        self.step.update()
        self.arguments["iteration"] = iteration
        is_last = iteration == self.max_iter
        saves = is_last or _is_due(iteration, self.periods.checkpoint)
        tests = is_last or _is_due(iteration, self.periods.test)
        if stop or saves or tests:
            stop |= self._settle(0)
        if stop and not is_last:
            self._save(iteration)
            done = f"ended after iteration {iteration}, which is saved; --resume goes on"
            logger.warning("%s", done)
            raise self._termination.end(done)
        if saves or (tests and self.evaluate is not None):
            self._save(iteration)
        if tests and self.evaluate is not None:
            self._test(iteration)
        if is_last:
            self.checkpointer.export("model_final")

    def _settle(self, lag: int) -> bool:
        """Looks at the numbers of all iterations but the last ``lag``.

        Returns:
            Whether any rank was asked to stop.
        """
        stop = False
        while len(self._running) > lag:
            running = self._running.popleft()
            *losses, total, asked, norm = running.numbers()
            named = dict(zip(running.names, losses, strict=True))
            self._overflows = 0 if np.isfinite(norm) else self._overflows + 1
            if not np.isfinite(total) or self._overflows > self._allowed_overflows:
                self._refuse(running, {**named, "gradient norm": norm})
            stop |= asked > 0
            self._log(running, {"loss": total, **named, "grad_norm": norm})
        return stop

    def _log(self, running: _Running, numbers: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self.meters.update(**numbers, time=now - self._last_end, data=running.data_seconds)
        self._last_end = now
        iteration = running.iteration
        if not (iteration % self.periods.log == 0 or iteration == self.max_iter):
            return
        memory = used_memory(self.step.device)
        logger.info(
            log_line(self.meters, iteration, self.max_iter, rate=running.rate, memory=memory)
        )
        record = {"iteration": iteration, "lr": running.rate}
        record |= {name: meter.avg for name, meter in self.meters.meters.items()}
        self.events.write({**record, "memory_mb": memory})

    def _refuse(self, running: _Running, numbers: Mapping[str, float]) -> None:
        iteration, batch = running.iteration, running.batch
        images = describe_images(batch, getattr(self.data_loader, "dataset", None))
        written = ""
        if self.checkpointer.save_dir:
            name = f"nonfinite_{iteration:07d}_rank{get_rank()}.pth"
            path = Path(self.checkpointer.save_dir) / name
            dump_batch(batch, path, iteration=iteration, losses=dict(numbers))
            written = f" The batch was written to {path}."
        everywhere = gather(images) or [images]
        values = ", ".join(f"{name} {value:g}" for name, value in numbers.items())
        message = (
            f"iteration {iteration} is not finite: {values}; learning rate {running.rate:g}; "
            f"images {'; '.join(image for rank in everywhere for image in rank)}.{written} The "
            "last checkpoint is of an earlier iteration. A lower SOLVER.BASE_LR, a longer "
            "SOLVER.WARMUP_ITERS or SOLVER.CLIP_GRADIENTS may help"
        )
        logger.error("%s", message)
        raise NonFiniteError(message)

    def _save(self, iteration: int) -> None:
        name = "model_final" if iteration == self.max_iter else f"model_{iteration:07d}"
        self.checkpointer.save(name, **self.arguments)

    def _test(self, iteration: int) -> None:
        """Evaluates the model and keeps it if it is the best so far; all was saved before."""
        if _on_any_rank(self._termination.requested):  # while a checkpoint was written
            raise self._termination.end(f"iteration {iteration} is saved; --resume goes on")
        average, model = self.checkpointer.average, self.step.model
        bare = average.model if average else bare_model(model)
        seconds = time.perf_counter()
        bare.eval()
        self._termination.at_once = True
        self.scores = dict(self.evaluate(bare))
        self._termination.at_once = False
        model.train()
        if is_main_process():
            best = max(map(mean_ap, self.events.evaluations()), default=-1.0)
            if mean_ap(self.scores) > best:
                self.checkpointer.save_weights(
                    "model_best", iteration=iteration, score=mean_ap(self.scores)
                )
            self.events.write({"iteration": iteration, **self.scores})
        self._last_end += time.perf_counter() - seconds

    def _evaluate_what_was_missed(self) -> None:
        """A run that broke off between a checkpoint and its evaluation evaluates first."""
        was_due = _is_due(self.start_iter, self.periods.test) or self.start_iter == self.max_iter
        if self.evaluate is None or not was_due:
            return
        known = any(record["iteration"] == self.start_iter for record in self.events.evaluations())
        if not _on_any_rank(known):
            self._test(self.start_iter)


def _on_any_rank(is_so: bool) -> bool:
    return sum_over_ranks(torch.tensor(float(is_so))).item() > 0


def _is_due(iteration: int, period: int) -> bool:
    return period > 0 and iteration > 0 and iteration % period == 0


def mean_ap(scores: Mapping[str, float]) -> float:
    """The number by which evaluations are compared.

    Mean AP of masks, without masks of keypoints, else of boxes; of a model that only proposes, the
    average recall.
    """
    for number in ("segm/AP", "keypoints/AP", "bbox/AP", "box_proposal/AR@1000"):
        found = [value for name, value in scores.items() if name.endswith(f"/{number}")]
        if found:
            return sum(found) / len(found)
    return -1.0


def seed_generators(seed: int) -> None:
    """Seeds the generators of Python, numpy and torch (all devices) with 64 bits."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed >> 1)
