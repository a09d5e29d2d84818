"""What kind of mistake each detection is, and what average precision each kind costs.

After Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (ECCV 2020).
A detection that finds no object is, by its overlap with the objects of the image (t_f = 0.5,
t_b = 0.1):

- *localisation*: t_b to t_f with an object of its class;
- *class*: at least t_f with an object of another class;
- *duplicate*: at least t_f with an object of its class that a better detection found;
- *background*: at most t_b with every object;
- *both*: what remains, t_b to t_f with an object of another class.

An object that is not found, and at which no localisation or class error points, is *missed*. The
first kind that fits, in this order, is the one that counts; it is the order of the authors' code.

What a kind costs is the gain in AP50 when an oracle mends all errors of that kind and nothing else:
the box is moved or the class changed, so that the detection finds the object (if several point at
the same object, the best of them; the others vanish); other detections vanish; missed objects are
no longer asked for. The gains do not add up to 100 - AP50, because mending one kind uncovers
another. Unlike in the authors' code, detections inside crowd regions are no errors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np

from maskrcnn_lib.report.matching import FOUND_FROM, ImageMatch

BACKGROUND_UP_TO = 0.1
"""Overlap with any object up to which a detection is of the background."""

_RECALLS = np.linspace(0, 1, 101)


class Verdict(IntEnum):
    """What a detection is."""

    FOUND = 0
    CLASS = 1
    LOCALISATION = 2
    BOTH = 3
    DUPLICATE = 4
    BACKGROUND = 5
    IGNORED = 6


ERRORS = (
    Verdict.CLASS,
    Verdict.LOCALISATION,
    Verdict.BOTH,
    Verdict.DUPLICATE,
    Verdict.BACKGROUND,
)
"""The verdicts that are errors; missed objects are another."""


@dataclass(frozen=True)
class Judged:
    """The detections of one image, judged.

    Attributes:
        match: them and the objects.
        verdicts: (D,) int64, values of :class:`Verdict`.
        concerns: (D,) int64, the object that a detection finds or that its error is about; -1 for
            none.
        covers: (D,) int64, of detections that find none, the object of another class that they
            overlap most, from t_f on; -1 for none.
        mends: (D,) bool, class and localisation errors that find their object once mended.
        missed: (G,) bool, objects at which no detection points.
    """

    match: ImageMatch
    verdicts: np.ndarray
    concerns: np.ndarray
    covers: np.ndarray
    mends: np.ndarray
    missed: np.ndarray


@dataclass(frozen=True)
class ErrorBreakdown:
    """Costs of the kinds of error, 0..1.

    Attributes:
        ap: AP50.
        costs: gain in AP50 by mending all errors of a kind (``"class"``, ..., ``"missed"``).
        counts: errors of each kind.
        false_positives: gain if every wrong detection came after all right ones.
        false_negatives: gain if objects that are not found were not asked for.
    """

    ap: float
    costs: dict[str, float]
    counts: dict[str, int]
    false_positives: float
    false_negatives: float


def judge(match: ImageMatch) -> Judged:
    """Finds the kind of error of each detection of an image."""
    shared, same = match.overlaps, match.same_class
    count, objects = shared.shape
    verdicts = np.full(count, int(Verdict.BACKGROUND))
    concerns, covers = match.object_of.copy(), np.full(count, -1)
    if objects:
        in_class, of_others = np.where(same, shared, 0.0), np.where(same, 0.0, shared)
        taken = np.where(match.is_found, in_class, 0.0)
        best = {
            Verdict.LOCALISATION: in_class,
            Verdict.CLASS: of_others,
            Verdict.DUPLICATE: taken,
        }
        peaks = {verdict: values.max(axis=1) for verdict, values in best.items()}
        near = peaks[Verdict.LOCALISATION]
        fits = {
            Verdict.LOCALISATION: (near >= BACKGROUND_UP_TO) & (near <= FOUND_FROM),
            Verdict.CLASS: peaks[Verdict.CLASS] >= FOUND_FROM,
            Verdict.DUPLICATE: peaks[Verdict.DUPLICATE] >= FOUND_FROM,
            Verdict.BACKGROUND: shared.max(axis=1) <= BACKGROUND_UP_TO,
        }
        verdicts = np.select(list(fits.values()), list(map(int, fits)), int(Verdict.BOTH))
        for verdict, values in best.items():
            rows = (verdicts == verdict) & (match.object_of < 0)
            concerns[rows] = values[rows].argmax(axis=1)
        lost = (peaks[Verdict.CLASS] >= FOUND_FROM) & (match.object_of < 0) & ~match.ignored
        covers[lost] = of_others[lost].argmax(axis=1)
    verdicts[match.object_of >= 0] = Verdict.FOUND
    verdicts[match.ignored] = Verdict.IGNORED
    concerns[match.ignored] = -1
    mends, pointed_at = _mendable(verdicts, concerns, match.is_found)
    return Judged(match, verdicts, concerns, covers, mends, ~match.is_found & ~pointed_at)


def _mendable(
    verdicts: np.ndarray, concerns: np.ndarray, is_found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which errors find their object once mended, (D,) bool, and which objects, (G,) bool."""
    mends, pointed_at = np.zeros(len(verdicts), bool), np.zeros(len(is_found), bool)
    wrong = (verdicts == Verdict.LOCALISATION) | (verdicts == Verdict.CLASS)
    for row in np.flatnonzero(wrong).tolist():  # the best score first
        target = concerns[row]
        if not is_found[target] and not pointed_at[target]:
            mends[row] = pointed_at[target] = True
    return mends, pointed_at


def break_down(judged: Iterable[Judged], category_ids: Sequence[int]) -> ErrorBreakdown:
    """Measures what each kind of error costs.

    Args:
        judged: of all images.
        category_ids: of the data set.
    """
    table = _Table.of(judged)
    classes = np.intersect1d(category_ids, table.objects)
    ap = table.mean_ap(classes)
    costs = {v.name.lower(): table.without(v).mean_ap(classes) - ap for v in ERRORS}
    counts = {v.name.lower(): int((table.verdicts == v).sum()) for v in ERRORS}
    costs["missed"] = table.asking_for(~table.missed).mean_ap(classes) - ap
    counts["missed"] = int(table.missed.sum())
    last = replace(table, score=table.right.astype(np.float64))
    return ErrorBreakdown(
        ap=ap,
        # below 0 only by the steps in which recall is sampled
        costs={name: max(0.0, cost) for name, cost in costs.items()},
        counts=counts,
        false_positives=last.mean_ap(classes) - ap,
        false_negatives=table.asking_for(table.is_found).mean_ap(classes) - ap,
    )


@dataclass(frozen=True)
class _Table:
    """Detections that count (N of them) and objects (M) of all images.

    Attributes:
        category, score: (N,) of the detections.
        right: (N,) bool, whether a detection finds its object.
        verdicts: (N,) int64.
        mends: (N,) bool, see :class:`Judged`.
        mended_category: (N,) int64, of the object that a detection is about.
        objects: (M,) int64 categories.
        is_found, missed: (M,) bool.
    """

    category: np.ndarray
    score: np.ndarray
    right: np.ndarray
    verdicts: np.ndarray
    mends: np.ndarray
    mended_category: np.ndarray
    objects: np.ndarray
    is_found: np.ndarray
    missed: np.ndarray

    @classmethod
    def of(cls, judged: Iterable[Judged]) -> "_Table":
        """The table of all images."""
        columns: dict[str, list[np.ndarray]] = {field.name: [] for field in fields(cls)}
        for one in judged:
            counts = one.verdicts != Verdict.IGNORED
            found, objects = one.match.found, one.match.objects
            categories = np.array([entry["category_id"] for entry in objects], dtype=np.int64)
            category = np.array([entry["category_id"] for entry in found], dtype=np.int64)
            concerned = category.copy()
            concerned[one.concerns >= 0] = categories[one.concerns[one.concerns >= 0]]
            columns["category"].append(category[counts])
            columns["score"].append(np.array([e["score"] for e in found], np.float64)[counts])
            columns["right"].append((one.verdicts == Verdict.FOUND)[counts])
            columns["verdicts"].append(one.verdicts[counts])
            columns["mends"].append(one.mends[counts])
            columns["mended_category"].append(concerned[counts])
            columns["objects"].append(categories)
            columns["is_found"].append(one.match.is_found)
            columns["missed"].append(one.missed)
        return cls(**{name: np.concatenate(parts or [_NONE]) for name, parts in columns.items()})

    def without(self, verdict: Verdict) -> "_Table":
        """After the errors of one kind are mended, or vanished."""
        of_kind = self.verdicts == verdict
        mended = of_kind & self.mends
        kept = ~of_kind | mended
        changed = replace(
            self,
            category=np.where(mended, self.mended_category, self.category),
            right=self.right | mended,
        )
        detections = {name: getattr(changed, name)[kept] for name in _OF_DETECTIONS}
        return replace(changed, **detections)

    def asking_for(self, objects: np.ndarray) -> "_Table":
        """With only some of the objects, (M,) bool."""
        return replace(self, objects=self.objects[objects])

    def mean_ap(self, classes: np.ndarray) -> float:
        """AP50, 0..1; a class of which neither objects nor detections are left does not count."""
        order = np.argsort(-self.score, kind="stable")
        category, right = self.category[order], self.right[order]
        values = []
        for number in classes.tolist():
            hits, objects = right[category == number], int((self.objects == number).sum())
            if objects or len(hits):
                values.append(_average_precision(hits, objects))
        return float(np.mean(values)) if values else 0.0


_OF_DETECTIONS = ("category", "score", "right", "verdicts", "mends", "mended_category")
_NONE = np.zeros(0, dtype=np.int64)


def _average_precision(hits: np.ndarray, objects: int) -> float:
    """COCO's: mean of the precision at 101 recalls.

    Args:
        hits: (N,) bool, whether each detection is right, the best score first.
        objects: how many there are to be found.
    """
    if not objects or not len(hits):
        return 0.0
    true = np.cumsum(hits)
    precision = np.maximum.accumulate((true / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(true / objects, _RECALLS, side="left")
    reached = places < len(hits)
    return float(precision[places[reached]].sum() / len(_RECALLS))
