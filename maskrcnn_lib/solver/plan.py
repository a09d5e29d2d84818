"""Makes a schedule fit its run, and finds out before the run what it cannot do.

The linear scaling rule is that of Goyal et al. (arXiv:1706.02677): k times the images per iteration
take k times the learning rate and a k-th of the iterations.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

NAMED_BATCH = 16
# Detectron's schedules for NAMED_BATCH images per iteration: iterations, steps.
NAMED_SCHEDULES = {
    "1x": (90_000, (60_000, 80_000)),
    "s1x": (130_000, (100_000, 120_000)),
    "2x": (180_000, (120_000, 160_000)),
    "3x": (270_000, (210_000, 250_000)),
}

_PERIODS = ("CHECKPOINT_PERIOD", "TEST_PERIOD")
_ITERATION_KEYS = ("MAX_ITER", "STEPS", *_PERIODS)


@dataclass(frozen=True)
class Plan:
    """A schedule in plain iterations.

    Attributes:
        cfg: the config with ``SOLVER``'s numbers as they will be used. ``MAX_EPOCH``,
            ``SCHEDULE_NAME`` and the reference batch are spent: planning it again changes nothing.
        notes: what was changed, one line each.
    """

    cfg: Any
    notes: tuple[str, ...]


def plan_schedule(cfg: Any, num_images: int, *, given: Collection[str] = ()) -> Plan:
    """Brings the schedule to the run's images per iteration and to iterations.

    - ``SCHEDULE_NAME`` sets MAX_ITER and STEPS to Detectron's.
    - With ``MAX_EPOCH``, STEPS, CHECKPOINT_PERIOD and TEST_PERIOD are epochs, too.
    - Where IMS_PER_BATCH is not REFERENCE_BATCH, BASE_LR is multiplied by their ratio, and what is
      counted in iterations is divided by it. The warm-up keeps its length.

    Args:
        num_images: of the training set.
        given: full keys (``SOLVER.BASE_LR``) whose values were set by hand for this very run;
            these are not scaled.

    Raises:
        ValueError: the name is unknown, or both a name and epochs are given.
    """
    planned, notes = cfg.clone(), []
    planned.defrost()
    solver = planned.SOLVER
    by_hand = {key.removeprefix("SOLVER.") for key in given}
    reference = solver.REFERENCE_BATCH or solver.IMS_PER_BATCH
    iteration_reference = reference
    if solver.SCHEDULE_NAME:
        if solver.MAX_EPOCH:
            raise ValueError("SOLVER.SCHEDULE_NAME and SOLVER.MAX_EPOCH exclude each other")
        solver.MAX_ITER, solver.STEPS = _named(solver.SCHEDULE_NAME)
        iteration_reference = NAMED_BATCH
        by_hand -= {"MAX_ITER", "STEPS"}
        notes.append(f"schedule {solver.SCHEDULE_NAME}: {solver.MAX_ITER} iterations of 16 images")
    if solver.MAX_EPOCH:
        notes.append(_epochs_to_iterations(solver, num_images))
    else:
        notes += _scale_iterations(solver, iteration_reference, by_hand)
    if solver.IMS_PER_BATCH != reference and "BASE_LR" not in by_hand:
        old, solver.BASE_LR = solver.BASE_LR, solver.BASE_LR * solver.IMS_PER_BATCH / reference
        notes.append(f"SOLVER.BASE_LR {old:g} -> {solver.BASE_LR:g}")
    if notes and solver.IMS_PER_BATCH != reference:
        notes.insert(
            0,
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, but the schedule is meant for "
            f"SOLVER.REFERENCE_BATCH {reference} images per iteration; it is scaled (0 for that "
            "key: take all numbers as they are)",
        )
    solver.SCHEDULE_NAME, solver.MAX_EPOCH = "", 0
    solver.REFERENCE_BATCH = solver.IMS_PER_BATCH
    return Plan(planned, tuple(notes))


def _named(name: str) -> tuple[int, tuple[int, ...]]:
    if name not in NAMED_SCHEDULES:
        raise ValueError(
            f"SOLVER.SCHEDULE_NAME {name!r} is unknown; choose one of {list(NAMED_SCHEDULES)}"
        )
    return NAMED_SCHEDULES[name]


def _epochs_to_iterations(solver: Any, num_images: int) -> str:
    per_epoch = num_images / solver.IMS_PER_BATCH
    epochs = solver.MAX_EPOCH
    solver.MAX_ITER = math.ceil(epochs * per_epoch)
    solver.STEPS = tuple(math.ceil(step * per_epoch) for step in solver.STEPS)
    for key in _PERIODS:
        solver[key] = math.ceil(solver[key] * per_epoch)
    steps = f", steps at {list(solver.STEPS)}" if solver.SCHEDULE == "multistep" else ""
    return f"{epochs} epochs of {num_images} images: {solver.MAX_ITER} iterations{steps}"


def _scale_iterations(solver: Any, reference: int, by_hand: Collection[str]) -> list[str]:
    notes = []
    for key in _ITERATION_KEYS:
        old = solver[key]
        if solver.IMS_PER_BATCH == reference or key in by_hand or not old:
            continue
        solver[key] = _scaled(old, reference / solver.IMS_PER_BATCH)
        notes.append(f"SOLVER.{key} {old} -> {solver[key]}")
    return notes


def _scaled(value: int | Sequence[int], factor: float) -> int | tuple[int, ...]:
    if isinstance(value, int):
        return max(1, math.ceil(value * factor))
    return tuple(max(1, math.ceil(item * factor)) for item in value)


def check_schedule(cfg: Any) -> list[str]:
    """Looks for what a planned schedule says and cannot do.

    Returns:
        Warnings: things that are possible, but hardly meant.

    Raises:
        ValueError: a step that the run never reaches, or a warm-up that it never leaves.
    """
    solver = cfg.SOLVER
    end, steps = solver.MAX_ITER, solver.STEPS if solver.SCHEDULE == "multistep" else ()
    late = [step for step in steps if step >= end]
    problems, warnings = [], []
    if late:
        problems.append(
            f"the learning rate should fall at {late}, but the run ends at iteration {end} "
            "(SOLVER.STEPS, SOLVER.MAX_ITER; with SOLVER.MAX_EPOCH steps are epochs). Set steps "
            'within the run, or SOLVER.STEPS "()" for a constant learning rate'
        )
    if solver.WARMUP_ITERS >= end:
        problems.append(
            f"the warm-up of {solver.WARMUP_ITERS} iterations is not over when the run ends at "
            f"iteration {end}: the learning rate {solver.BASE_LR:g} would never be reached. Set "
            "SOLVER.WARMUP_ITERS well below SOLVER.MAX_ITER"
        )
    elif steps and solver.WARMUP_ITERS > steps[0]:
        warnings.append(
            f"the warm-up lasts {solver.WARMUP_ITERS} iterations, but the learning rate falls at "
            f"iteration {steps[0]} already (SOLVER.WARMUP_ITERS, SOLVER.STEPS)"
        )
    if problems:
        raise ValueError("the schedule cannot do what it says:\n  - " + "\n  - ".join(problems))
    if solver.TEST_PERIOD and not cfg.DATASETS.TEST:
        warnings.append(
            f"SOLVER.TEST_PERIOD is {solver.TEST_PERIOD}, but DATASETS.TEST is empty: nothing will "
            "ever be evaluated"
        )
    elif solver.TEST_PERIOD > end:
        warnings.append(
            f"SOLVER.TEST_PERIOD {solver.TEST_PERIOD} lies beyond the end at iteration {end}: "
            "there will be an evaluation at the end only"
        )
    if not solver.CHECKPOINT_PERIOD or solver.CHECKPOINT_PERIOD > end:
        warnings.append(
            f"SOLVER.CHECKPOINT_PERIOD {solver.CHECKPOINT_PERIOD} never comes before the end at "
            f"iteration {end}: a run that breaks off would be lost"
        )
    return warnings
