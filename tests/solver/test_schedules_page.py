"""The table in docs/schedules.md, from eight GPUs to one, is what a run would plan."""

import re
from pathlib import Path

import pytest

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.solver.plan import plan_schedule

PAGE = Path(__file__).parents[2] / "docs" / "schedules.md"
ROW = re.compile(r"^\| (\d+) \| (\d*) ?\| ([\d.]+) \| ([\d ]+), ([\d ]+) \| ([\d ]+) \|$", re.M)


@pytest.mark.skipif(not PAGE.exists(), reason="not a checkout")
def test_table_from_eight_gpus_to_one_follows_from_the_config():
    rows = ROW.findall(PAGE.read_text())
    assert [row[0] for row in rows] == ["16", "8", "4", "2", "1"]
    for images, gpus, rate, first, second, end in rows:
        assert not gpus or int(images) == 2 * int(gpus)
        cfg = get_cfg("e2e_mask_rcnn_R_50_FPN_1x", ["SOLVER.IMS_PER_BATCH", images])
        solver = plan_schedule(cfg, 118_287, given={"SOLVER.IMS_PER_BATCH"}).cfg.SOLVER
        assert solver.BASE_LR == pytest.approx(float(rate))
        assert solver.STEPS == tuple(int(step.replace(" ", "")) for step in (first, second))
        assert solver.MAX_ITER == int(end.replace(" ", ""))
