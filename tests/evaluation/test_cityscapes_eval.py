"""Cityscapes' average precision, against hand-computed cases and whole bitmaps."""

import numpy as np
import pytest

from maskrcnn_lib.evaluation.cityscapes_eval import (
    IOU_THRESHOLDS,
    MIN_REGION,
    VOID_IDS,
    evaluate_cityscapes,
)
from maskrcnn_lib.evaluation.overlaps import encode

NAMES = {24: "person", 26: "car"}
HEIGHT, WIDTH = 60, 80
ROAD = 7


def scene(*regions):
    """Pixels of instances, each (number, y1, y2, x1, x2), on a road."""
    ids = np.full((HEIGHT, WIDTH), ROAD, np.int32)
    for number, y1, y2, x1, x2 in regions:
        ids[y1:y2, x1:x2] = number
    return ids


def mask(y1, y2, x1, x2, score=0.9, label=26):
    bitmap = np.zeros((HEIGHT, WIDTH), bool)
    bitmap[y1:y2, x1:x2] = True
    return {"category_id": label, "score": score, "segmentation": encode(bitmap)}


def score(ids, *masks):
    return evaluate_cityscapes([ids], [masks], NAMES)


def test_the_objects_themselves_score_one():
    ids = scene((26000, 0, 20, 0, 20), (26001, 30, 50, 0, 20), (24000, 0, 20, 40, 60))
    masks = [mask(0, 20, 0, 20), mask(30, 50, 0, 20, 0.8), mask(0, 20, 40, 60, 0.3, label=24)]
    scores = score(ids, *masks)
    assert scores.metrics == {"AP": 1.0, "AP50": 1.0}
    assert scores.per_class == {"person": 1.0, "car": 1.0}


def test_an_iou_of_the_threshold_is_not_enough():
    ids = scene((26000, 0, 20, 0, 20))
    assert score(ids, mask(0, 20, 0, 10)).metrics["AP50"] == 0.0  # 200 of 400 pixels
    # 220 of 400 pixels are 0.55, which is above 0.5 alone
    scores = score(ids, mask(0, 20, 0, 11))
    assert scores.metrics == pytest.approx({"AP": 0.1, "AP50": 1.0})


def test_small_objects_do_not_count_and_their_masks_are_not_wrong():
    ids = scene((26000, 0, 20, 0, 20), (26001, 40, 49, 40, 51))  # 99 pixels
    masks = mask(0, 20, 0, 20, 0.5), mask(40, 49, 40, 51, 0.9)
    assert score(ids, *masks).metrics["AP50"] == 1.0
    assert score(ids, masks[0]).metrics["AP50"] == 1.0
    large = scene((26000, 0, 20, 0, 20), (26001, 40, 50, 40, 50))  # 100 pixels
    assert score(large, masks[0]).metrics["AP50"] == pytest.approx(0.5)


def test_area_of_a_curve_with_an_object_that_is_missed():
    # points (recall, precision) = (1/2, 1) and the end (0, 1), which the last step of the curve
    # joins: each has half of the width 1/2 between them, and half of that beyond its neighbours
    ids = scene((26000, 0, 20, 0, 20), (26001, 30, 50, 0, 20))
    assert score(ids, mask(0, 20, 0, 20)).metrics["AP50"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("number", "is_ignored"),
    [(0, True), (4, True), (29, True), (26, True), (24, False), (29000, False), (ROAD, False)],
)
def test_masks_on_void_and_on_groups_of_their_class_are_not_wrong(number, is_ignored):
    ids = scene((26000, 0, 20, 0, 20), (number, 30, 50, 0, 20))
    scores = score(ids, mask(0, 20, 0, 20, 0.5), mask(30, 50, 0, 20, 0.9))
    # if wrong, by rising confidence: (recall 1, precision 1/2), (0, 0) and the end (0, 1), of
    # widths (1 - 0) / 2, (1 - 0) / 2 and 0
    assert scores.metrics["AP50"] == pytest.approx(1.0 if is_ignored else 0.25)


def test_a_mask_is_ignored_by_the_share_of_it_that_lies_on_void():
    ids = scene((26000, 0, 20, 0, 20), (0, 30, 50, 0, 13))
    # 13 of 20 columns are ignored: more than 0.5, 0.55 and 0.6
    scores = score(ids, mask(0, 20, 0, 20, 0.5), mask(30, 50, 0, 20, 0.9))
    assert scores.metrics["AP"] == pytest.approx((3 * 1 + 7 * 0.25) / 10)


def test_of_several_masks_of_an_object_the_most_confident_is_right():
    ids = scene((26000, 0, 20, 0, 20))
    # below an IoU of 0.8 the one of 0.9 is right and the exact one wrong, but less confident,
    # which costs nothing; from 0.8 on a wrong one of 0.9 stands before a right one of 0.5
    scores = score(ids, mask(0, 20, 0, 20, 0.5), mask(0, 20, 0, 16, 0.9))
    assert scores.metrics["AP"] == pytest.approx((6 * 1 + 4 * 0.25) / 10)
    assert score(ids, mask(0, 20, 0, 20, 0.9), mask(0, 20, 0, 16, 0.5)).metrics["AP"] == 1.0


def test_classes_that_are_not_there_are_left_out_of_the_mean():
    scores = score(scene((26000, 0, 20, 0, 20)), mask(0, 20, 0, 20), mask(0, 9, 50, 60, label=24))
    assert scores.per_class == {"person": -1.0, "car": 1.0}
    assert scores.metrics["AP"] == 1.0
    assert score(scene()).metrics == {"AP": -1.0, "AP50": -1.0}


def test_a_mask_without_pixels_is_none():
    ids = scene((26000, 0, 20, 0, 20))
    assert score(ids, mask(0, 0, 0, 0, 0.99), mask(0, 20, 0, 20, 0.5)).metrics["AP50"] == 1.0


def by_bitmaps(images, results, label, threshold):
    """The steps of the benchmark's evaluation on whole bitmaps, one pair after the other."""
    truths, scores, missed, any_found = [], [], 0, False
    for ids, found in zip(images, results, strict=True):
        numbers = [n for n in np.unique(ids) if (n if n < 1000 else n // 1000) == label]
        sizes = {n: int((ids == n).sum()) for n in numbers}
        countable = [n for n in numbers if n >= 1000 and sizes[n] >= MIN_REGION]
        masks = [(b, s) for lab, b, s in found if lab == label and b.any()]
        any_found |= bool(masks)
        iou = {
            (i, n): (b & (ids == n)).sum() / (b | (ids == n)).sum()
            for i, (b, _) in enumerate(masks)
            for n in numbers
        }
        for n in countable:
            matched = sorted(s for i, (_, s) in enumerate(masks) if iou[i, n] > threshold)
            missed += not matched
            for rank, s in enumerate(matched):
                truths.append(rank == len(matched) - 1)
                scores.append(s)
        for i, (b, s) in enumerate(masks):
            if any(iou[i, n] > threshold for n in numbers):
                continue
            ignorable = np.isin(ids[b], VOID_IDS).sum()
            for n in numbers:
                shared = (ids[b] == n).sum()
                ignorable += shared * (n < 1000) + shared * (sizes[n] < MIN_REGION)
            if ignorable / b.sum() <= threshold:
                truths.append(False)
                scores.append(s)
    positives = sum(truths) + missed
    if not positives:
        return np.nan
    if not any_found:
        return 0.0
    points = []
    for level in sorted(set(scores)):
        right = sum(t for t, s in zip(truths, scores, strict=True) if s >= level)
        points.append((right / sum(s >= level for s in scores), right / positives))
    points.append((1.0, 0.0))
    recalls = [points[0][1], *(r for _, r in points), 0.0]
    return sum(p * (recalls[i] - recalls[i + 2]) / 2 for i, (p, _) in enumerate(points))


@pytest.mark.parametrize("seed", range(4))
def test_random_scenes_score_as_by_bitmaps(seed):
    rng = np.random.default_rng(seed)
    kinds = [*(26000 + np.arange(4)), *(24000 + np.arange(3)), 24, 26, 0, 4, 29, 29000]
    images, plain, coded = [], [], []
    for _ in range(6):
        ids, found = scene(), []
        for number in rng.permutation(kinds):
            (y, x), (h, w) = rng.integers(0, (HEIGHT - 5, WIDTH - 5)), rng.integers(5, 35, 2)
            ids[y : y + h, x : x + w] = number
            for _ in range(rng.integers(0, 3)):
                dy, dx, dh, dw = rng.integers(-3, 4, 4)
                bitmap = np.zeros((HEIGHT, WIDTH), bool)
                top, left = max(0, y + dy), max(0, x + dx)
                bitmap[top : max(0, y + h + dh), left : max(0, x + w + dw)] = True
                label = int(rng.choice([24, 26]))
                found.append((label, bitmap, round(rng.random(), 1)))
        # all that is left visible, more exactly than by chance
        found += [
            (int(n) // 1000, ids == n, round(rng.random(), 1))
            for n in np.unique(ids)
            if n // 1000 in NAMES and rng.random() < 0.5
        ]
        images.append(ids)
        plain.append(found)
        coded.append(
            [{"category_id": lab, "segmentation": encode(b), "score": s} for lab, b, s in found]
        )
    scores = evaluate_cityscapes(images, coded, NAMES)
    expected = {
        label: [by_bitmaps(images, plain, label, t) for t in IOU_THRESHOLDS] for label in NAMES
    }
    # the same rational numbers, added in another order
    assert scores.metrics["AP"] == pytest.approx(np.mean(list(expected.values())), abs=1e-9)
    for label, name in NAMES.items():
        assert scores.per_class[name] == pytest.approx(np.mean(expected[label]), abs=1e-9)
    assert 0.05 < scores.metrics["AP"] < 0.95
