"""Writes a COCO data set with some of its classes: their objects, and all images.

python training/select_classes.py annotations.json fewer.json --classes person cat dog
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def select_classes(content: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The content of an annotation file with the classes of these names; others are an error."""
    kept = {c["name"]: c for c in content["categories"] if c["name"] in names}
    missing = [name for name in names if name not in kept]
    if missing:
        raise ValueError(f"the file has no class {', '.join(missing)}")
    ids = {category["id"] for category in kept.values()}
    return {
        **content,
        "categories": list(kept.values()),
        "annotations": [a for a in content["annotations"] if a["category_id"] in ids],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--classes", nargs="+", required=True, metavar="NAME")
    args = parser.parse_args()
    content = json.loads(args.source.read_text())
    args.target.write_text(json.dumps(select_classes(content, args.classes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
