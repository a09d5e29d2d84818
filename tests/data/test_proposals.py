"""Files of proposals: formats, limits, what is refused, and how they travel with a data set."""

import json
import pickle

import numpy as np
import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.build import make_data_loader
from maskrcnn_lib.data.collate import BatchCollator, TransformedSample
from maskrcnn_lib.data.datasets.concat import ConcatDataset
from maskrcnn_lib.data.datasets.with_proposals import DatasetWithProposals
from maskrcnn_lib.data.proposals import Regions, read_proposals, write_proposals
from maskrcnn_lib.data.transforms.crop import crop_sample
from maskrcnn_lib.data.transforms.flip import RandomFlip
from maskrcnn_lib.structures.bounding_box import BoxList

BOXES = np.array([[10, 4, 30, 24], [0, 0, 5, 5], [2, 2, 60, 40]], dtype=np.float32)
SCORES = np.array([0.5, 0.1, 0.9], dtype=np.float32)
GIVEN = {7: Regions(BOXES, SCORES), 3: Regions(BOXES[:0], SCORES[:0])}


class TwoImages:
    """Images 7 and 3 of 64 x 48 pixels, with one object each."""

    def __init__(self):
        self.categories = {1: "cat"}

    def __len__(self):
        return 2

    def get_img_info(self, index):
        return {"id": (7, 3)[index], "width": 64, "height": 48}

    def target(self, index):
        target = BoxList([[8, 6, 30, 20]], (64, 48))
        target.add_field("labels", torch.tensor([1]))
        return target

    def __getitem__(self, index):
        return np.zeros((48, 64, 3), np.uint8), self.target(index), index


@pytest.mark.parametrize("ending", [".npz", ".json"])
def test_what_is_written_is_read_best_first(tmp_path, ending):
    path = tmp_path / "new" / f"proposals{ending}"
    write_proposals(path, GIVEN)
    found = read_proposals(path)
    assert list(found) == [7, 3]
    np.testing.assert_array_equal(found[7].boxes, BOXES[[2, 0, 1]])
    np.testing.assert_array_equal(found[7].scores, SCORES[[2, 0, 1]])
    assert found[3].boxes.shape == (0, 4)
    np.testing.assert_array_equal(read_proposals(path, limit=2)[7].scores, SCORES[[2, 0]])


@pytest.mark.parametrize("name", ["ids", "indexes"])
def test_detectrons_boxes_end_at_their_last_pixel(tmp_path, name):
    content = {"boxes": [BOXES, BOXES[:0]], "scores": [SCORES, SCORES[:0]], name: [7, 3]}
    path = tmp_path / "rpn_proposals.pkl"
    path.write_bytes(pickle.dumps({**content, "cfg": "MODEL: {}"}, protocol=2))
    found = read_proposals(path)
    np.testing.assert_array_equal(found[7].boxes[0], [2, 2, 61, 41])
    assert len(found[3].boxes) == 0


def test_a_pickle_that_calls_something_is_refused(tmp_path):
    class Call:
        def __reduce__(self):
            return print, ("called",)

    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"boxes": Call(), "scores": [], "ids": []}))
    with pytest.raises(ValueError, match=r"evil.pkl is refused: it asks to call builtins.print"):
        read_proposals(path)


def image(**changes):
    return {"id": 1, "boxes": [[0, 0, 5, 5]], "scores": [1.0], **changes}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([image(), image()], "image 1 comes twice"),
        ([image(scores=[])], "image 1 has 1 boxes and 0 scores"),
        ([image(boxes=[[0, 0, float("nan"), 5]])], "not finite"),
        ([{"id": 1, "boxes": []}], "there is no 'scores'"),
        ([image(boxes=[[0, 0, 5]])], "cannot be read as proposals"),
        (5, "cannot be read as proposals"),
    ],
)
def test_what_cannot_be_meant_is_named(tmp_path, images, message):
    path = tmp_path / "proposals.json"
    path.write_text(json.dumps({"images": images}))
    with pytest.raises(ValueError, match=message):
        read_proposals(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no proposals at"):
        read_proposals(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="cannot be read as proposals"):
        read_proposals(tmp_path / "text.npz")
    write_proposals(tmp_path / "cut.npz", GIVEN)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cut\.npz cannot be read as proposals"):
        read_proposals(tmp_path / "cut.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.npz cannot be read as proposals"):
        read_proposals(tmp_path / "empty.npz")
    (tmp_path / "boxes.txt").write_text("")
    with pytest.raises(ValueError, match=r"read from \.npz, \.json, \.pkl"):
        read_proposals(tmp_path / "boxes.txt")
    with pytest.raises(ValueError, match=r"written to \.npz or \.json"):
        write_proposals(tmp_path / "boxes.pkl", GIVEN)


def test_targets_carry_the_proposals_of_their_image():
    dataset = ConcatDataset([DatasetWithProposals(TwoImages(), GIVEN, source="file")])
    _, target, _ = dataset[0]
    assert target.proposals.bbox.tolist() == BOXES.tolist()
    assert target.proposals.size == (64, 48)
    assert len(dataset.target(1).proposals) == 0
    assert target[:0].proposals is target.proposals
    with pytest.raises(ValueError, match="file lacks 1 of the 2 images of the data set"):
        DatasetWithProposals(TwoImages(), {7: GIVEN[7]}, source="file")


def test_data_sets_that_give_no_targets_alone_may_have_proposals():
    class Images:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return None, TwoImages().target(index), index

        def get_img_info(self, index):
            return TwoImages().get_img_info(index)

    dataset = DatasetWithProposals(Images(), GIVEN, source="file")
    assert [len(dataset.target(i).proposals) for i in range(2)] == [3, 0]


def test_proposals_follow_the_transforms():
    pixels, target, _ = DatasetWithProposals(TwoImages(), GIVEN, source="file")[0]
    rng = np.random.default_rng(0)
    pixels, target = RandomFlip(horizontal=1.0)(pixels, target, rng)
    assert target.proposals.bbox[0].tolist() == [64 - 30, 4, 64 - 10, 24]
    pixels, target = crop_sample(pixels, target, (4, 2, 64, 42))
    assert target.proposals.bbox[0].tolist() == [30, 2, 50, 22]
    target = target.resize((120, 80))
    assert target.proposals.size == (120, 80)
    assert target.proposals.bbox[0].tolist() == [60, 4, 100, 44]


def test_the_batch_hands_them_to_the_model():
    dataset = DatasetWithProposals(TwoImages(), GIVEN, source="file")
    samples = [
        TransformedSample(torch.zeros(3, 48, 64), dataset.target(i), i, seed=0) for i in range(2)
    ]
    batch = BatchCollator(32)(samples)
    assert [len(regions) for regions in batch.images.proposals] == [3, 0]
    assert [len(regions) for regions in batch.to("cpu").images.proposals] == [3, 0]
    assert [len(regions) for regions in batch.images.part(slice(1, 2)).proposals] == [0]
    plain = TransformedSample(torch.zeros(3, 48, 64), TwoImages().target(0), 0, seed=0)
    assert BatchCollator()([plain]).images.proposals is None


def test_a_config_names_the_file_of_each_data_set(tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [8, 6, 22, 14], "iscrowd": 0}
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    write_proposals(tmp_path / "regions.npz", GIVEN)
    name = f"coco:{tmp_path / 'a.json'}:{tmp_path}"
    keys = {
        "MODEL.LOAD_PROPOSALS": True,
        "DATASETS.TRAIN": (name,),
        "DATASETS.PROPOSAL_FILES_TRAIN": (str(tmp_path / "regions.npz"),),
        "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2,
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 2,
        "INPUT.HORIZONTAL_FLIP_PROB_TRAIN": 0.0,
        "INPUT.MIN_SIZE_TRAIN": (96,),
        "SOLVER.IMS_PER_BATCH": 1,
        "SOLVER.MAX_ITER": 1,
        "DATALOADER.NUM_WORKERS": 0,
    }
    cfg = get_cfg(None, [item for pair in keys.items() for item in pair])
    (batch,) = make_data_loader(cfg)
    (regions,) = batch.images.proposals
    assert regions.size == (128, 96)
    assert regions.bbox.tolist() == (2 * BOXES[[2, 0]]).tolist()
    keys["DATASETS.PROPOSAL_FILES_TRAIN"] = ("a.npz", "b.npz")
    with pytest.raises(ValueError, match="PROPOSAL_FILES_TRAIN needs one file for each of the 1"):
        get_cfg(None, [item for pair in keys.items() for item in pair])
