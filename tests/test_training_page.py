"""The steps of training/README.md, from photos to a file of weights, on a few photos each."""

import json
import shutil
import subprocess
import sys

import pytest

from .document_workplace import MODEL, SHORT, write_video
from .documents import BLOCK, ROOT

PAGE = ROOT / "training" / "README.md"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGE.exists(), reason="not a checkout"),
]
# In front of the page's lines: its programs, with a body that need not be downloaded and few steps.
PROGRAMS = f"""
set -eu
maskrcnn() {{ {sys.executable} -m maskrcnn_lib.tools.cli "$@"; }}
python() {{
  if [ "$1" = training/distill.py ]; then
    {sys.executable} "$1" --weights catalog://{MODEL} "${{@:2}}" {" ".join(map(repr, SHORT))}
  else
    {sys.executable} "$@"
  fi
}}
"""


@pytest.fixture
def workplace(test_data, tmp_path):
    """What the page says to have: COCO, images to measure on, photos and videos."""
    for folder in ("COCO/annotations", "COCO/train2017", "VAL", "found/package", "balloon"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "videos").mkdir()
    (tmp_path / "maskrcnn_lib" / "weights").mkdir(parents=True)
    for name in ("training", "demo"):
        (tmp_path / name).symlink_to(ROOT / name)
    coco = test_data / "coco_mini"
    for split, name in (("train2017", "COCO/train2017"), ("val2017", "VAL")):
        content = json.loads((coco / "annotations" / f"instances_{split}.json").read_text())
        content["images"] = content["images"][:4]
        ids = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
        target = tmp_path / "COCO" / "annotations" / f"instances_{split}.json"
        target.write_text(json.dumps(content))
        for image in content["images"]:
            (tmp_path / name / image["file_name"]).symlink_to(coco / split / image["file_name"])
    for photo in sorted((test_data / "balloon" / "train").glob("*.jpg"))[:2]:
        shutil.copy(photo, tmp_path / "balloon")
    shutil.copy(ROOT / "demo" / "images" / "coffee.jpg", tmp_path / "found" / "package")
    shutil.copy(sorted((test_data / "photos").glob("*.jpg"))[0], tmp_path / "found" / "package")
    write_video(str(tmp_path / "videos" / "clip.mp4"))
    return tmp_path


def test_steps_lead_from_photos_to_a_file_of_weights(workplace, test_data, monkeypatch):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ((_, lines),) = [block for block in BLOCK.findall(PAGE.read_text()) if block[0] == "bash"]
    done = subprocess.run(
        ["bash", "-c", PROGRAMS + lines], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Of four photos, one is in demo/images and one in VAL; frames of the video are too small.
    assert len(list((workplace / "photos").iterdir())) == 2
    learnt = json.loads((workplace / "labels.json").read_text())
    assert len(learnt["categories"]) == 12 and learnt["annotations"]
    (packed,) = (workplace / "maskrcnn_lib" / "weights").iterdir()
    assert 3e6 < packed.stat().st_size < 6e6
    scores = [json.loads(path.read_text()) for path in workplace.rglob("coco_results.json")]
    assert {"bbox", "segm"} <= scores[-1].keys()
