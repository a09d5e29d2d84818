"""Looking more than once finds more, on real photos with trained weights."""

import json

import pytest

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.datasets.coco import COCODataset
from maskrcnn_lib.engine.inference import build_detector
from maskrcnn_lib.engine.measuring import measure_dataset

PHOTOS = 40  # the first of coco_mini's val2017
MODELS = {
    "mask": ("d2go/mask_rcnn_fbnetv3a_C4", "mask_rcnn_fbnetv3a_float.pth", "instances"),
    "keypoints": (
        "d2go/keypoint_rcnn_fbnetv3a_dsmask_C4",
        "keypoint_rcnn_fbnetv3a_dsmask_float.pth",
        "person_keypoints",
    ),
}
MORE = [
    *("TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.H_FLIP", True),
    *("TEST.BBOX_AUG.SCALES", (256, 400), "TEST.BBOX_AUG.SCALE_H_FLIP", True),
    *("TEST.BBOX_VOTE.ENABLED", True, "TEST.BBOX_VOTE.VOTE_TH", 0.9),
]
FIELDS = [f"TEST.{name}_AUG.{key}" for name in ("MASK", "KPS") for key in ("ENABLED", "H_FLIP")]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("kind", MODELS)
def test_precision_rises(test_data, kind):
    """On the first 80 photos, box and mask AP: .276 and .263; mirrored .297 and .274; also at 256
    and 400 .315 and .282, and with votes and averaged masks .320 and .294. Box and keypoint AP of
    persons: .300 and .374; mirrored .316 and .388; with two sizes more .372 and .424."""
    config, weights, annotations = MODELS[kind]
    folder = test_data / "coco_mini"
    content = json.loads((folder / "annotations" / f"{annotations}_val2017.json").read_text())
    content["images"] = sorted(content["images"], key=lambda image: image["id"])[:PHOTOS]
    shown = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in shown]
    photos = COCODataset(content, folder / "val2017")

    def precision(overrides):
        detector = build_detector(get_cfg(config, overrides), test_data / "weights" / weights)
        scores, _ = measure_dataset(detector, "val", photos, progress=False)
        return {name: found.metrics["AP"] for name, found in scores.items()}

    once = precision([])
    more = precision([*MORE, *(item for key in FIELDS for item in (key, True))])
    assert len(once) == 2
    for name, value in once.items():
        assert more[name] > value, (name, value, more[name])
