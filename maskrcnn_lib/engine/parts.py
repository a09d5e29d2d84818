"""Results of ranges of a data set's images, found by several runs, and whether they make a whole.

A part is a directory with COCO results per kind and ``range.json``, which says of which images.
"""

import json
from collections.abc import Sequence
from pathlib import Path

PART_FILE = "range.json"


def check_range(start: int, end: int, count: int) -> range:
    """The positions ``start`` to ``end - 1`` of a data set of ``count`` images.

    Raises:
        ValueError: there are no such images.
    """
    if not count:
        raise ValueError("the data set has no image")
    if not 0 <= start < end <= count:
        raise ValueError(
            f"--range {start} {end}: the data set has the images 0 to {count}, of which START is "
            "the first one and END the one after the last"
        )
    return range(start, end)


def part_folder(target: Path, images: range) -> Path:
    """Where the results of a part belong, in the directory of a data set."""
    return target / f"range_{images.start:07d}_{images.stop:07d}"


def note_range(folder: Path, images: range, count: int) -> None:
    """Writes down which images of a data set of ``count`` the results in ``folder`` are of."""
    content = {"start": images.start, "end": images.stop, "images": count}
    (folder / PART_FILE).write_text(json.dumps(content))


def is_part(folder: Path) -> bool:
    """Whether the results in a directory are those of a range of images."""
    return (folder / PART_FILE).is_file()


def parts_in(folder: Path) -> list[Path]:
    """The parts that lie in the directory of a data set."""
    return [path.parent for path in sorted(folder.glob(f"range_*/{PART_FILE}"))]


def complete_parts(folders: Sequence[Path]) -> list[Path]:
    """Parts in the order of their images.

    Raises:
        ValueError: they do not make a data set: images are in none or in two of them, or they are
            parts of data sets of different sizes; a directory is no part.
    """
    ranges = []
    for folder in folders:
        if not is_part(folder):
            raise ValueError(
                f"{folder} has no {PART_FILE}: several directories have to be parts of one data "
                "set, as `maskrcnn test --range` writes them"
            )
        noted = json.loads((folder / PART_FILE).read_text(encoding="utf-8"))
        ranges.append((noted["start"], noted["end"], noted["images"], folder))
    ranges.sort()
    counts = {count for _, _, count, _ in ranges}
    if len(counts) > 1:
        raise ValueError(f"parts of data sets of {' and '.join(map(str, sorted(counts)))} images")
    reached = 0
    for start, end, _, folder in [*ranges, (*counts, 0, 0, None)]:
        if start > reached:
            raise ValueError(
                f"the images {reached} to {start} are in no part: `maskrcnn test --range "
                f"{reached} {start}` finds what is missing"
            )
        if start < reached:
            raise ValueError(f"{folder}: images {start} to {min(end, reached)} are in two parts")
        reached = end
    return [folder for *_, folder in ranges]
