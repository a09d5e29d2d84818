"""docs/export.md runs from top to bottom, with the model that comes with the package."""

import shutil
import subprocess
import sys

import pytest
from PIL import Image

from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.engine.inference import PACKAGED_MODEL, build_detector, choose_model
from maskrcnn_lib.export.agreement import agreement, network_pixels, open_file
from maskrcnn_lib.tools.cli import main

from ..documents import NOT_RUN, ROOT, steps, words_of

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("torchvision")

DOCUMENT = ROOT / "docs" / "export.md"
PHOTO = ROOT / "demo" / "images" / "coffee.jpg"
# What the document names, and what stands for it: weights that are at hand.
STAND_INS = {
    "d2go/mask_rcnn_fbnetv3a_C4": PACKAGED_MODEL,
    "model_final.pth": f"catalog://{PACKAGED_MODEL}",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DOCUMENT.exists(), reason="not a checkout"),
]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A directory with what the document names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASKRCNN_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    shutil.copy(PHOTO, "photo.jpg")
    cfg, weights = choose_model(model=PACKAGED_MODEL)
    (tmp_path / "my.yaml").write_text(cfg.dump())
    return build_detector(cfg, weights, pack=False)


def run_shell(line):
    words = [STAND_INS.get(word, word) for word in words_of(line)]
    if words[0] == "maskrcnn":
        assert main(words[1:]) == 0, line
    else:
        subprocess.run([sys.executable, *words[1:]], check=True)


def test_document_runs_from_top_to_bottom(workplace, capsys):
    image = read_image(PHOTO)
    names = {
        "pixels": network_pixels(workplace.transform, image),
        "height": image.shape[0],
        "width": image.shape[1],
    }
    for kind, text in steps(DOCUMENT):
        if kind == "python":
            for name, stand_in in STAND_INS.items():
                text = text.replace(name, stand_in)
            exec(compile(text, "<document>", "exec"), names)
        elif ("docs/export.md", text) not in NOT_RUN:
            run_shell(text)
    said = capsys.readouterr().out
    assert "photo.jpg: same: " in said and "Run it: python demo/onnx_detect.py model.onnx" in said
    expected = workplace([image])[0]
    assert len(expected) and agreement(expected, names["found"]).good
    assert names["class_names"][0] == "__background"
    found = open_file("model.onnx")(names["pixels"], image.shape[:2])  # written from Python
    assert agreement(expected, found).good
    assert Image.open("found.png").size == image.shape[1::-1]
