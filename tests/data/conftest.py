"""Faults for files that come from elsewhere."""

import copy
import random

import pytest

# Values that stand where they should not; run lengths are those of an image of 40 x 30 pixels.
_JUNK = [
    None, True, False, 0, 1, -1, 2, 7, 1.5, -0.0, 1e-30, 1e5, -1e7, 1e30, 1e308, float("inf"),
    float("-inf"), float("nan"), 10**18, 10**400, "", " ", "1", "-3", "nan", "x" * 300, "\0",
    "\ud800", "../../etc/passwd", "/etc/passwd", "C:\\x.png", "a\\b.png", [], [[]], [[[]]], {}, [0],
    [1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5], [5, 5, 5, 5, 5, 5], [None] * 6, [float("nan")] * 8,
    [[1, 1, 20, 1, 20, 20]], [[1, 1], [20, 1], [20, 20]], [1e308] * 6, ["1"] * 6, {"size": [1, 1]},
    {"size": [30, 40], "counts": [5]}, {"size": [30, 40], "counts": "a"},
    {"size": [30, 40], "counts": [-5, 1205]}, {"size": None, "counts": None},
    {"size": [30, 40], "counts": [0, 1200]}, {"counts": "0", "size": [10**9, 10**9]},
    {"id": 1}, {"size": [30, 40], "counts": "ooooooooooooo"},
]  # fmt: skip


def _places(node, path=()):
    """Paths of all values in a tree of lists and dicts."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in children:
        if isinstance(child, dict | list):
            yield from _places(child, (*path, key))
        else:
            yield (*path, key)


def _mutate_once(content, draw):
    places = [path for path in _places(content) if path]
    path = draw.choice(places)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    action = draw.choice(["junk", "junk", "delete", "copy", "number"])
    if action == "delete":
        del parent[path[-1]]
    elif action == "copy" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[path[-1]]))
    elif action == "number" and isinstance(parent[path[-1]], int | float):
        parent[path[-1]] *= draw.choice([-1, 0, 0.5, 3, 1000, 1e300, float("nan")])
    else:
        parent[path[-1]] = copy.deepcopy(draw.choice(_JUNK))


@pytest.fixture
def mutate():
    """A function that puts one to four faults into a tree of lists and dicts."""

    def mutate(content, seed):
        draw = random.Random(seed)
        content = copy.deepcopy(content)
        for _ in range(draw.randint(1, 4)):
            if any(path for path in _places(content)):
                _mutate_once(content, draw)
        return content

    return mutate
