"""Malformed files of other formats: a clear error, or what is left is valid."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.tools.convert import convert

COUNT = 150
_POLYGON = {"name": "polygon", "all_points_x": [5, 15, 15], "all_points_y": [5, 5, 15]}
_CIRCLE = {"name": "circle", "cx": 20, "cy": 20, "r": 5}
_VIA = {
    name: {
        "filename": name,
        "regions": [
            {"shape_attributes": shape, "region_attributes": {"kind": "cat"}}
            for shape in (_POLYGON, _CIRCLE)
        ],
    }
    for name in ("a.png", "b.png")
}
_LABELME = {
    "imagePath": "a.png",
    "shapes": [
        {"label": "cat", "points": [[5, 5], [15, 5], [15, 15]], "group_id": None},
        {"label": "cat", "points": [[5, 5], [15, 9]], "group_id": 1, "shape_type": "circle"},
        {"label": "dog", "points": [[5, 5], [15, 9]], "group_id": 1, "shape_type": "rectangle"},
    ],
}
_CITYSCAPES = {
    "imgWidth": 40,
    "imgHeight": 30,
    "objects": [
        {"label": "car", "polygon": [[5, 5], [15, 5], [15, 15]]},
        {"label": "cargroup", "polygon": [[5, 5], [15, 5], [15, 15]]},
    ],
}


def _write(kind, root, content):
    """Puts the file where its converter looks for it; returns the source."""
    picture = Image.fromarray(np.zeros((30, 40, 3), np.uint8))
    if kind != "cityscapes":
        for name in "ab":
            picture.save(root / f"{name}.png")
        (root / "a.json").write_text(json.dumps(content))
        return root / "a.json"
    for folder, name in (("leftImg8bit", "leftImg8bit.png"), ("gtFine", "gtFine_polygons.json")):
        path = root / folder / "train" / "ulm" / f"ulm_0_0_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path) if folder == "leftImg8bit" else path.write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("kind", "content"), [("via", _VIA), ("labelme", _LABELME), ("cityscapes", _CITYSCAPES)]
)
def test_malformed_file_is_an_error_or_leaves_valid_annotations(kind, content, mutate, tmp_path):
    options = {"mode": "poly"} if kind == "cityscapes" else {}
    outcomes = {"error": 0, "converted": 0}
    for seed in range(COUNT):
        source = _write(kind, tmp_path, mutate(content, seed))
        try:
            converted, _ = convert(kind, source, tmp_path / "out" / "out.json", **options)
        except (ValueError, FileNotFoundError):
            outcomes["error"] += 1
            continue
        dataset = COCODataset(tmp_path / "out" / "out.json", converted.image_root)
        assert [f for f in dataset.report.findings if f.action != "noted"] == []
        outcomes["converted"] += 1
    assert min(outcomes.values()) > COUNT // 20
