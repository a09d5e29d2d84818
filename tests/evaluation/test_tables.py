"""Tables are aligned and say where there is nothing to measure."""

from maskrcnn_lib.evaluation.coco_eval import KEYPOINT_METRICS, METRICS
from maskrcnn_lib.evaluation.scores import Scores
from maskrcnn_lib.evaluation.tables import overall_table, per_class_table, percent


def test_percent_shows_one_decimal_and_a_dash_for_nothing():
    assert percent(0.3456) == "34.6"
    assert percent(-1.0) == "-"


def test_overall_table_has_a_line_per_kind():
    scores = [
        Scores(kind, dict.fromkeys(METRICS, value), {}, "pycocotools")
        for kind, value in (("bbox", 0.25), ("segm", 1.0))
    ]
    lines = overall_table(scores).splitlines()
    assert lines[2].split() == ["bbox"] + ["25.0"] * 6
    assert lines[3].split() == ["segm"] + ["100.0"] * 6


def test_numbers_that_a_kind_does_not_have_are_blank():
    scores = [
        Scores("bbox", dict.fromkeys(METRICS, 0.25), {}, ""),
        Scores("keypoints", dict.fromkeys(KEYPOINT_METRICS, 0.5), {}, ""),
    ]
    head, _, first, second = overall_table(scores).splitlines()
    small = head.index("APs")
    assert first[small : small + 4] == "25.0"
    assert second[small : small + 4] == "    "
    assert second.split() == ["keypoints"] + ["50.0"] * 5


def test_recall_is_shown_where_there_is_nothing_else():
    table = overall_table([Scores("box_proposal", {"AR@100": 0.25, "ARs@100": -1.0}, {}, "")])
    assert table.splitlines()[0].split() == ["AR@100", "ARs@100"]
    assert table.splitlines()[2].split() == ["box_proposal", "25.0", "-"]


def test_per_class_table_holds_every_class_once():
    names = [f"class{i}" for i in range(7)]
    table = per_class_table({"bbox": {name: i / 10 for i, name in enumerate(names)}}, columns=3)
    cells = table.split()
    assert all(cells.count(name) == 1 for name in names)
    assert cells[cells.index("class4") + 1] == "40.0"
