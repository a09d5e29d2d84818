"""Schedules are scaled to the batch, and those that cannot do what they say are found out."""

import re
from pathlib import Path

import pytest

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.solver.plan import NAMED_SCHEDULES, check_schedule, plan_schedule

SCHEDULES = Path(__file__).resolve().parents[2] / "docs" / "schedules.md"


def _cfg(*overrides):
    return get_cfg("e2e_mask_rcnn_R_50_FPN_1x", list(overrides))


def _numbers(cfg):
    solver = cfg.SOLVER
    return solver.MAX_ITER, tuple(solver.STEPS), pytest.approx(solver.BASE_LR)


# maskrcnn-benchmark's README gives these numbers for two images on one GPU.
def test_two_images_take_an_eighth_of_the_rate_and_eight_times_the_iterations():
    plan = plan_schedule(_cfg("SOLVER.IMS_PER_BATCH", 2), 118_000)
    assert _numbers(plan.cfg) == (720_000, (480_000, 640_000), 0.0025)
    assert plan.cfg.SOLVER.WARMUP_ITERS == 500
    assert any("BASE_LR 0.02 -> 0.0025" in note for note in plan.notes)


@pytest.mark.skipif(not SCHEDULES.exists(), reason="not a checkout")
def test_the_table_of_the_documents_is_what_a_run_does():
    rows = re.findall(
        r"^\| (\d+) \| \d? \| ([\d.]+) \| (.+) \| (.+) \|$", SCHEDULES.read_text(), re.M
    )
    rows += re.findall(r"^\| (1) \| \| ([\d.]+) \| (.+) \| (.+) \|$", SCHEDULES.read_text(), re.M)
    assert [int(images) for images, *_ in rows] == [16, 8, 4, 2, 1]
    for images, rate, steps, end in rows:
        planned = plan_schedule(_cfg("SOLVER.IMS_PER_BATCH", int(images)), 118_000).cfg
        steps = tuple(int(step.replace(" ", "")) for step in steps.split(","))
        assert _numbers(planned) == (int(end.replace(" ", "")), steps, float(rate))


def test_the_batch_that_a_schedule_is_made_for_changes_nothing():
    for name, batch in (("e2e_mask_rcnn_R_50_FPN_1x", 16), ("e2e_mask_rcnn_R_50_C4_1x", 8)):
        cfg = get_cfg(name)
        plan = plan_schedule(cfg, 118_000)
        assert cfg.SOLVER.IMS_PER_BATCH == batch
        assert (plan.cfg, plan.notes) == (cfg, ())


def test_planning_twice_is_planning_once():
    once = plan_schedule(_cfg("SOLVER.IMS_PER_BATCH", 4), 1000).cfg
    assert plan_schedule(once, 1000).cfg == once


def test_numbers_given_by_hand_are_taken_as_they_are():
    given = {"SOLVER.BASE_LR": 0.0025, "SOLVER.MAX_ITER": 720_000, "SOLVER.STEPS": (480_000,)}
    overrides = [part for pair in given.items() for part in pair]
    cfg = _cfg("SOLVER.IMS_PER_BATCH", 2, *overrides)
    plan = plan_schedule(cfg, 118_000, given=given)
    assert _numbers(plan.cfg) == (720_000, (480_000,), 0.0025)


def test_scaling_can_be_refused():
    plan = plan_schedule(_cfg("SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH", 0), 1000)
    assert _numbers(plan.cfg) == (90_000, (60_000, 80_000), 0.02)
    assert plan.notes == ()


@pytest.mark.parametrize("name", list(NAMED_SCHEDULES))
def test_named_schedules_are_detectrons_and_scale(name):
    plan = plan_schedule(_cfg("SOLVER.SCHEDULE_NAME", name, "SOLVER.IMS_PER_BATCH", 8), 118_000)
    iterations, steps = NAMED_SCHEDULES[name]
    assert _numbers(plan.cfg) == (2 * iterations, tuple(2 * step for step in steps), 0.01)


def test_named_schedules_count_sixteen_images_whatever_the_file_is_made_for():
    cfg = get_cfg("e2e_mask_rcnn_R_50_C4_1x", ["SOLVER.SCHEDULE_NAME", "2x"])
    plan = plan_schedule(cfg, 118_000)
    assert _numbers(plan.cfg) == (360_000, (240_000, 320_000), 0.01)


def test_epochs_become_iterations():
    overrides = ["SOLVER.MAX_EPOCH", 12, "SOLVER.STEPS", (8, 11), "SOLVER.IMS_PER_BATCH", 2]
    overrides += ["SOLVER.TEST_PERIOD", 3, "SOLVER.CHECKPOINT_PERIOD", 1]
    plan = plan_schedule(_cfg(*overrides), 61)
    assert _numbers(plan.cfg) == (366, (244, 336), 0.0025)
    assert (plan.cfg.SOLVER.TEST_PERIOD, plan.cfg.SOLVER.CHECKPOINT_PERIOD) == (92, 31)
    assert plan.cfg.SOLVER.MAX_EPOCH == 0
    assert plan.notes[-1].endswith("BASE_LR 0.02 -> 0.0025")
    assert "12 epochs of 61 images: 366 iterations, steps at [244, 336]" in plan.notes


def test_cosine_schedule_mentions_no_steps():
    overrides = ["SOLVER.MAX_EPOCH", 12, "SOLVER.SCHEDULE", "cosine", "SOLVER.IMS_PER_BATCH", 2]
    plan = plan_schedule(_cfg(*overrides), 61)
    assert "12 epochs of 61 images: 366 iterations" in plan.notes


def test_a_step_beyond_the_end_is_an_error():
    cfg = _cfg("SOLVER.MAX_ITER", 70_000)
    with pytest.raises(ValueError, match=r"fall at \[80000\], but the run ends at iteration 70000"):
        check_schedule(cfg)
    assert check_schedule(_cfg("SOLVER.MAX_ITER", 70_000, "SOLVER.STEPS", ())) == []


def test_the_warmup_of_the_balloon_tutorial_is_noticed():
    overrides = ["SOLVER.MAX_EPOCH", 12, "SOLVER.STEPS", (8, 11), "SOLVER.IMS_PER_BATCH", 2]
    plan = plan_schedule(_cfg(*overrides, "SOLVER.CHECKPOINT_PERIOD", 1), 61)
    with pytest.raises(ValueError, match=r"warm-up of 500 iterations is not over"):
        check_schedule(plan.cfg)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["SOLVER.TEST_PERIOD", 100_000], "at the end only"),
        (["SOLVER.TEST_PERIOD", 1000, "DATASETS.TEST", ()], "DATASETS.TEST is empty"),
        (["SOLVER.TEST_PERIOD", 100_000, "DATASETS.TEST", ()], "nothing will ever be evaluated"),
        (["SOLVER.CHECKPOINT_PERIOD", 100_000], "would be lost"),
        (["SOLVER.WARMUP_ITERS", 65_000], "falls at iteration 60000 already"),
    ],
)
def test_what_is_hardly_meant_is_warned_about(overrides, words):
    (warning,) = check_schedule(_cfg(*overrides))
    assert words in warning


def test_shipped_schedules_can_do_what_they_say():
    from maskrcnn_lib.config import list_configs

    for name in list_configs():
        images = 61 if name.startswith("balloon/") else 118_000
        assert check_schedule(plan_schedule(get_cfg(name), images).cfg) == [], name
