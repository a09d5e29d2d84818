"""A slow TIDE, written from the paper in plain loops, to compare with: boxes, no crowd regions."""

POSITIVE, BACKGROUND = 0.5, 0.1
TYPES = ("class", "localisation", "both", "duplicate", "background", "missed")


def iou(a, b):
    """Of boxes (x, y, width, height)."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def ap50(detections, objects):
    """Mean over the classes of (class, score, right) detections and a list of objects' classes."""
    values = []
    for number in set(objects):
        total = objects.count(number)
        mine = sorted((d for d in detections if d[0] == number), key=lambda d: -d[1])
        hits, points = 0, []
        for rank, (_, _, right) in enumerate(mine, start=1):
            hits += right
            points.append((hits / total, hits / rank))
        reach = [
            max((p for r, p in points if r >= i / 100 - 1e-12), default=0.0) for i in range(101)
        ]
        values.append(sum(reach) / 101)
    return sum(values) / len(values)


def tide(images):
    """AP50, and per type of error its cost and its number.

    Args:
        images: pairs of detections (class, score, box) and objects (class, box).
    """
    table, objects, missed = [], [], []
    for found, truth in images:
        found = sorted(found, key=lambda d: -d[1])
        finder = {}  # object -> detection
        for d, (c, _, box) in enumerate(found):
            near = [
                (iou(box, b), g) for g, (k, b) in enumerate(truth) if k == c and g not in finder
            ]
            best = max(near, key=lambda pair: pair[0], default=(0.0, -1))
            if best[0] >= POSITIVE:
                finder[best[1]] = d
        claims = set()
        for d, (c, score, box) in enumerate(found):
            if d in finder.values():
                table.append((c, score, True, None, None))
                continue
            kind, target = _kind(c, box, truth, finder)
            mended = None
            if kind in ("class", "localisation") and target not in finder and target not in claims:
                claims.add(target)
                mended = truth[target][0]
            table.append((c, score, False, kind, mended))
        for g, (c, _) in enumerate(truth):
            objects.append(c)
            missed.append(g not in finder and g not in claims)
    base = ap50([row[:3] for row in table], objects)
    costs = {t: ap50(_mend(table, t), objects) - base for t in TYPES[:-1]}
    asked = [c for c, lost in zip(objects, missed, strict=True) if not lost]
    kept = [row[:3] for row in table]
    counts = {t: sum(row[3] == t for row in table) for t in TYPES[:-1]} | {"missed": sum(missed)}
    gone = {c: 0.0 for c in set(objects) - set(asked) if any(row[0] == c for row in kept)}
    classes = set(asked) | set(gone)
    without = ap50(kept, asked) * len(set(asked)) / len(classes) if asked else 0.0
    costs["missed"] = without - base
    return base, costs, counts


def _kind(c, box, truth, finder):
    same = [(iou(box, b), g) for g, (k, b) in enumerate(truth) if k == c]
    other = [(iou(box, b), g) for g, (k, b) in enumerate(truth) if k != c]
    best_same = max(same, key=lambda pair: pair[0], default=(0.0, -1))
    best_other = max(other, key=lambda pair: pair[0], default=(0.0, -1))
    if BACKGROUND <= best_same[0] <= POSITIVE:
        return "localisation", best_same[1]
    if best_other[0] >= POSITIVE:
        return "class", best_other[1]
    if any(overlap >= POSITIVE and g in finder for overlap, g in same):
        return "duplicate", None
    if max(best_same[0], best_other[0]) <= BACKGROUND:
        return "background", None
    return "both", None


def _mend(table, kind):
    rows = []
    for c, score, right, error, mended in table:
        if error != kind:
            rows.append((c, score, right))
        elif mended is not None:
            rows.append((mended, score, True))
    return rows
