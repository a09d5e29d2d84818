"""Scores are compared with those that a config expects."""

import logging

import pytest

from maskrcnn_lib.evaluation.expected import check_expected_results, read_expected_results

NUMBERS = {"val/bbox/AP": 0.378, "val/segm/AP": 0.342}


def check(*entries, datasets=("val",), **options):
    return check_expected_results(NUMBERS, read_expected_results(entries, **options), datasets)


@pytest.mark.parametrize("std", [0.0011, 0.002])
def test_maskrcnn_benchmarks_entries_allow_four_standard_deviations(std, caplog):
    with caplog.at_level(logging.INFO):
        assert check(["bbox", "AP", [0.374, std]]) == []
    assert "PASS: val/bbox/AP" in caplog.text


def test_a_score_too_far_off_is_an_error_with_all_numbers(caplog):
    (line,) = check(["bbox", "AP", [0.374, 0.0009]], ["segm", "AP", [0.342, 0.001]])
    assert line == "val/bbox/AP is 0.3780; 0.3704 to 0.3776 expected"
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.getMessage() == f"FAIL: {line}"
    assert check(["bbox", "AP", [0.374, 0.0009]], sigma_tolerance=5.0) == []


@pytest.mark.parametrize(("value", "passes"), [(37.7, True), (37.9, True), (37.5, False)])
def test_detectron2s_entries_are_percent_with_a_tolerance(value, passes):
    assert (check(["bbox", "AP", value, 0.2]) == []) is passes


def test_scores_that_were_not_measured_are_missed():
    (line,) = check(["keypoints", "AP", [0.5, 0.1]])
    assert "val/keypoints/AP was not measured" in line
    assert len(check(["bbox", "AP", [0.378, 0.1]], datasets=("val", "other"))) == 1


@pytest.mark.parametrize("entry", [["bbox", "AP"], ["bbox", "AP", 0.3], ["bbox", "AP", "a", 1], 5])
def test_entries_of_another_form_are_refused(entry):
    with pytest.raises(ValueError, match=r"TEST\.EXPECTED_RESULTS needs"):
        read_expected_results([entry])
