"""``maskrcnn proposals``, and Fast R-CNN on what it writes."""

import json

import pytest

from maskrcnn_lib.data.proposals import read_proposals
from maskrcnn_lib.tools.cli import main

MODEL = ["--config-file", "d2go/faster_rcnn_fbnetv3a_C4"]
SMALL = ["INPUT.MIN_SIZE_TEST", "224", "MODEL.RPN.POST_NMS_TOP_N_TEST", "60"]


@pytest.fixture
def few_photos(test_data, tmp_path, monkeypatch):
    """Annotation file of four validation images, and their directory."""
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    mini = test_data / "coco_mini"
    content = json.loads((mini / "annotations" / "instances_val2017.json").read_text())
    content["images"] = content["images"][:4]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    path = tmp_path / "few.json"
    path.write_text(json.dumps(content))
    return path, mini / "val2017", ids


def test_given_its_own_proposals_a_model_finds_the_same(few_photos, tmp_path, capsys):
    annotations, images, ids = few_photos
    output = tmp_path / "proposals.npz"
    data = ["--json", str(annotations), "--images", str(images), "--output", str(output)]
    assert main(["proposals", *MODEL, *data, *SMALL]) == 0
    assert "240 proposals of 4 images written" in capsys.readouterr().out
    proposals = read_proposals(output)
    assert set(proposals) == ids
    assert all((regions.scores[:-1] >= regions.scores[1:]).all() for regions in proposals.values())

    keys = ["DATASETS.TEST", f"('coco:{annotations}:{images}',)"]
    assert main(["test", *MODEL, "--output", str(tmp_path / "faster"), *SMALL, *keys]) == 0
    keys += ["MODEL.LOAD_PROPOSALS", "True", "DATASETS.PROPOSAL_FILES_TEST", f"('{output}',)"]
    assert main(["test", *MODEL, "--output", str(tmp_path / "fast"), *SMALL, *keys]) == 0
    expected, found = (
        json.loads((tmp_path / kind / "few" / "bbox.json").read_text())
        for kind in ("faster", "fast")
    )
    assert len(found) == len(expected) > 10
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours["image_id"], ours["category_id"]) == (
            theirs["image_id"],
            theirs["category_id"],
        )
        # Proposals went to the original image's pixels and back in float32.
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=0.05)


def test_without_proposals_such_a_model_says_what_it_needs(few_photos, capsys):
    annotations, images, _ = few_photos
    data = ["--test-json", str(annotations), "--test-images", str(images)]
    assert main(["test", *MODEL, *data, *SMALL, "MODEL.LOAD_PROPOSALS", "True"]) == 1
    told = capsys.readouterr().err
    assert f"coco:{annotations}:{images}" in told and "PROPOSAL_FILES_TEST" in told


def test_other_endings_are_refused_before_any_work(capsys):
    data = ["--json", "a.json", "--images", "images", "--output", "proposals.txt"]
    assert main(["proposals", *MODEL, *data]) == 1
    assert "written to .npz or .json" in capsys.readouterr().err


def test_a_batch_of_no_images_is_refused(few_photos, tmp_path, capsys):
    annotations, images, _ = few_photos
    output = tmp_path / "proposals.npz"
    data = ["--json", str(annotations), "--images", str(images), "--output", str(output)]
    with pytest.raises(SystemExit, match="2"):
        main(["proposals", *MODEL, *data, "--batch-size", "-1", *SMALL])
    assert "--batch-size: -1 is not at least 1" in capsys.readouterr().err
    assert not output.exists()
