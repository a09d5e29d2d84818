"""BoxList in the forms of other programs, compared with those programs and with values by hand."""

import json
import sys

import numpy as np
import pytest
import torch

from maskrcnn_lib.config.dialects import PasteRule
from maskrcnn_lib.layers import paste_masks
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import PersonKeypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

WIDTH, HEIGHT = 40, 30
NAMES = ("__background", "cat", "dog")
ALIGNED = PasteRule(aligned=True, box_end_offset=-1.0)


@pytest.fixture
def found():
    """Two detections with probabilities of 14 x 14."""
    boxes = BoxList([[2.0, 3.0, 22.5, 13.25], [10.0, 5.0, 35.0, 28.0]], (WIDTH, HEIGHT))
    boxes.add_field("scores", torch.tensor([0.75, 0.5]))
    boxes.add_field("labels", torch.tensor([2, 1]))
    generator = torch.Generator().manual_seed(0)
    boxes.add_field("mask", torch.rand(2, 1, 14, 14, generator=generator))
    return boxes


def with_bitmaps(found, paste=None):
    bitmaps = paste_masks(
        found.get_field("mask"),
        found.bbox if paste is None else paste.boxes(found.bbox),
        (HEIGHT, WIDTH),
        aligned=paste is not None and paste.aligned,
    )
    result = found.copy_with_fields(["scores", "labels"])
    result.add_field("mask", bitmaps[:, None])
    return result


def encoded(bitmaps):
    from pycocotools import mask

    return [
        mask.encode(np.asfortranarray(bitmap.numpy().astype(np.uint8)))["counts"].decode()
        for bitmap in bitmaps
    ]


@pytest.mark.parametrize("paste", [None, ALIGNED], ids=["integer", "aligned"])
def test_coco_masks_are_those_of_pycocotools_from_probabilities_and_from_bitmaps(found, paste):
    bitmaps = with_bitmaps(found, paste)
    expected = encoded(bitmaps.get_field("mask")[:, 0])
    for boxes in (found, bitmaps):
        rles = [row["segmentation"] for row in boxes.to_coco(image_id=1, paste=paste)]
        assert [rle["counts"] for rle in rles] == expected
        assert all(rle["size"] == [HEIGHT, WIDTH] for rle in rles)


def test_coco_results_say_what_was_found(found):
    rows = found.convert("xywh").to_coco(image_id=7, category_ids=[0, 17, 18])
    first = rows[0]
    assert first["image_id"] == 7 and first["category_id"] == 18 and first["score"] == 0.75
    assert first["bbox"] == [2.0, 3.0, 20.5, 10.25]
    assert json.loads(json.dumps(rows)) == rows
    assert found.to_coco(image_id=7)[1]["category_id"] == 1


def test_labels_without_a_category_are_left_out_and_unknown_ones_refused(found):
    (row,) = found.to_coco(image_id=1, category_ids=[-1, 17, -1])
    assert row["category_id"] == 17 and row["bbox"] == [10.0, 5.0, 25.0, 23.0]
    assert row["segmentation"] == found.to_coco(image_id=1)[1]["segmentation"]
    with pytest.raises(ValueError, match="label 2 has no entry in the 2 category_ids"):
        found.to_coco(image_id=1, category_ids=[0, 1])


def test_annotated_objects_become_coco_annotations():
    boxes = BoxList([[1.0, 2.0, 5.0, 8.0]], (WIDTH, HEIGHT))
    boxes.add_field("labels", torch.tensor([1]))
    boxes.add_field("masks", SegmentationMask([[[1, 2, 5, 2, 5, 8, 1, 8]]], (WIDTH, HEIGHT)))
    boxes.add_field("keypoints", PersonKeypoints([[[3, 4, 2]] + [[0, 0, 0]] * 16], (WIDTH, HEIGHT)))
    (row,) = boxes.to_coco(image_id=1)
    filled = torch.zeros((1, HEIGHT, WIDTH), dtype=torch.bool)
    filled[:, 2:8, 1:5] = True
    assert row["segmentation"]["counts"] == encoded(filled)[0]
    assert row["keypoints"] == [3.0, 4.0, 2.0] + [0.0] * 48
    assert "score" not in row


@pytest.mark.parametrize("with_masks", [False, True])
def test_nothing_found_is_nothing_everywhere(found, with_masks):
    nothing = (found if with_masks else found.copy_with_fields(["scores", "labels"]))[[]]
    assert nothing.to_coco(image_id=1) == [] and nothing.to_rows() == []
    assert nothing.to_dict()["boxes"].shape == (0, 4)
    assert ("masks" in nothing.to_dict()) == with_masks


def test_dict_is_what_torchvision_draws(found):
    from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

    known = found.convert("xywh").to_dict()
    assert list(known) == ["boxes", "scores", "labels", "size", "masks"]
    assert known["size"] == (WIDTH, HEIGHT) and known["masks"].dtype == torch.bool
    assert torch.equal(known["boxes"], found.bbox)
    black = torch.zeros((3, HEIGHT, WIDTH), dtype=torch.uint8)
    painted = draw_segmentation_masks(black, known["masks"][:1], alpha=1.0, colors="white")
    expected = with_bitmaps(found).get_field("mask")[0, 0]
    assert torch.equal((painted > 0).all(dim=0), expected)
    framed = draw_bounding_boxes(black, known["boxes"], colors="white")
    assert framed[:, 5, 10:36].all()  # upper edge of the second box


def test_rows_are_columns_of_a_table(found):
    found.add_field("track", [11, 12])
    found.add_field("offsets", torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    found.add_field("keypoints", PersonKeypoints(torch.ones(2, 17, 3) * 3, (WIDTH, HEIGHT)))
    first, second = found.to_rows(class_names=NAMES)
    assert first.keys() == second.keys()
    boxed = {key: first[key] for key in ("x1", "y1", "x2", "y2", "area")}
    assert boxed == {"x1": 2.0, "y1": 3.0, "x2": 22.5, "y2": 13.25, "area": 20.5 * 10.25}
    assert (first["label"], first["class_name"], first["score"]) == (2, "dog", 0.75)
    assert (first["track"], second["offsets"]) == (11, [3.0, 4.0])
    assert first["nose_x"] == 3.0 and len([key for key in first if "visibility" in key]) == 17
    areas = with_bitmaps(found).get_field("mask").sum(dim=(1, 2, 3)).tolist()
    assert [first["mask_area"], second["mask_area"]] == areas
    assert "mask" not in first and "keypoints" not in first


def test_a_label_beyond_the_names_is_numbered(found):
    assert found.to_rows(class_names=NAMES[:2])[0]["class_name"] == "class 2"


def test_supervision_reads_the_same_detections(found):
    supervision = pytest.importorskip("supervision")
    detections = found.to_supervision(class_names=NAMES)
    assert isinstance(detections, supervision.Detections) and len(detections) == 2
    np.testing.assert_array_equal(detections.xyxy, found.bbox.numpy())
    np.testing.assert_array_equal(detections.box_area, found.area().numpy())
    areas = [row["mask_area"] for row in found.to_rows()]
    np.testing.assert_array_equal(detections.area, areas)  # of masks, where there are masks
    sure = detections[detections.confidence > 0.6]
    assert sure.class_id.tolist() == [2] and sure["class_name"].tolist() == ["dog"]
    scene = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    painted = supervision.MaskAnnotator(opacity=1.0).annotate(scene, detections)
    expected = with_bitmaps(found).get_field("mask").any(dim=0)[0].numpy()
    np.testing.assert_array_equal(painted.any(axis=-1), expected)


def test_supervision_takes_boxes_without_fields_and_none_at_all(found):
    supervision = pytest.importorskip("supervision")
    bare = BoxList(found.bbox, found.size).to_supervision(class_names=NAMES)
    assert len(bare) == 2 and bare.mask is None and bare.confidence is None
    assert len(supervision.Detections.merge([found[[]].to_supervision()])) == 0


def test_supervision_that_is_missing_is_named(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ModuleNotFoundError, match="pip install supervision"):
        found.to_supervision()
