"""What the documents tell a reader to run is run: shell lines and Python, in the page's order.

Lines run as they stand, in a directory with the files that they name. Stand-ins replace models
whose weights would be downloaded, a camera, eight GPUs, and schedules of hours.
"""

import contextlib
import glob
import io
import logging
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from maskrcnn_lib.modeling import registry
from maskrcnn_lib.tools.cli import main

from .document_workplace import MODEL, SHORT, furnish
from .documents import (
    DOCUMENTS,
    KEY,
    NOT_RUN,
    ROOT,
    block_lines,
    document_name,
    inline_commands,
    steps,
    words_of,
)

# Documents whose commands have a test of their own, which knows what has to come out.
ELSEWHERE = {
    "demo/balloon.md": "tests/test_balloon_tutorial.py",
    "docs/export.md": "tests/export/test_document.py",
    "docs/getting_started.md": "tests/test_getting_started.py",
    "maskrcnn_lib/modeling/README.md": "tests/modeling/test_readme.py",
    "training/README.md": "tests/test_training_page.py",
}
HERE = [path for path in DOCUMENTS if document_name(path) not in ELSEWHERE and list(steps(path))]
TRAINED = "trained/config.yaml", "trained/model_final.pth"
# What stands for what: models that would be downloaded, and names like F in sentences and tables.
STAND_INS = {
    "torchvision/maskrcnn_resnet50_fpn": MODEL,
    "catalog://torchvision/maskrcnn_resnet50_fpn": f"catalog://{MODEL}",
    "d2go/mask_rcnn_fbnetv3a_C4": MODEL,
    "rpn_R_50_FPN_1x": MODEL,
    "rpn.pth": f"catalog://{MODEL}",
    "F": TRAINED[0],
    "W": TRAINED[1],
    "URL": TRAINED[1],
    "J": "train.json",
    "DIR": "photos",
    "KEY": "SEED",
    "VALUE": "1",
    "NAME": MODEL,
    "IN": "in.pth",
    "OUT": "out.pth",
    "native|torchvision|detectron2": "native",
    "RUN": "run",
    "RESULTS": "run",
    "run/val2017": "run/inference/instances_val2017",
    "[WORD": "torchvision",
    "...]": "keypoint",
}
FEW_IMAGES = {"2500": "2", "5000": "3"}  # of --range, on a data set of three

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not a checkout"),
]


def with_packaged_model_alone(patch, place):
    """Makes ``place`` the current directory and the user's; no other weights are at hand."""
    patch.chdir(place)
    patch.setenv("HOME", str(place))
    patch.setenv("PYTHONPATH", str(ROOT))  # of the processes that a command starts
    patch.setenv("MASKRCNN_CACHE", str(place / "cache"))
    patch.delenv("MASKRCNN_WEIGHTS_DIR", raising=False)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    place = tmp_path_factory.mktemp("furnished")
    with pytest.MonkeyPatch.context() as patch:
        with_packaged_model_alone(patch, place)
        furnish()
    return place


@pytest.fixture
def workplace(furnished, tmp_path, monkeypatch):
    """A copy of the furnished directory."""
    logger = logging.getLogger("maskrcnn_lib")
    before = logger.handlers[:], logger.propagate, logger.level
    bodies = set(registry.BACKBONES)
    place = tmp_path / "workplace"
    shutil.copytree(furnished, place, symlinks=True, ignore=shutil.ignore_patterns("in.pth"))
    (place / "in.pth").symlink_to(furnished / "in.pth")
    with_packaged_model_alone(monkeypatch, place)
    monkeypatch.setenv("DISPLAY", ":0")  # of which only these two know
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: None)
    monkeypatch.setattr(cv2, "waitKey", lambda delay: -1)
    yield place
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])
    for name in set(registry.BACKBONES) - bodies:
        del registry.BACKBONES[name]


@pytest.fixture
def programs():
    """Programs that run beside the test; they are ended after it."""
    running = []
    yield running
    for program in running:
        program.terminate()
        program.wait(timeout=30)


def with_stand_ins(words, number):
    """A command's words, with a model that is at hand, few images and a training of moments."""
    words = [STAND_INS.get(word, f"D_{number}" if word == "D" else word) for word in words]
    kind, *rest = words
    rest = [name for word in rest for name in (sorted(glob.glob(word)) or [word])]
    if kind == "video" and rest[0] == "0":
        rest[0] = "holiday.mp4"
    if "--range" in rest:
        rest = [FEW_IMAGES.get(word, word) for word in rest]
    if "--num-gpus" in rest:
        rest[rest.index("--num-gpus") + 1] = "2"
    if kind == "train":
        has_data = "--train-json" in rest or TRAINED[0] in rest
        own = [] if has_data else ["--train-json", "train.json", "--train-images", "photos"]
        output = [] if {"OUTPUT_DIR", "--resume"} & set(rest) else ["OUTPUT_DIR", f"run_{number}"]
        small = {MODEL, TRAINED[0]} & set(rest)
        rest = [*own, *rest, *output, *SHORT, *([] if small else ["MODEL.WEIGHT", ""])]
    elif "--num-gpus" in rest:
        rest += ["MODEL.DEVICE", "cpu"]
    return [kind, *rest]


def completed(words):
    """A fragment of a command that stands in a sentence, with what that leaves out."""
    kind, *rest = words
    if kind == "predict" and rest[0].startswith("--"):
        rest = ["photo.jpg", *rest]
    elif words == ["check-dataset", "--decode"]:
        rest = ["coco:train.json:photos", *rest]
    elif kind == "test" and not {"--config-file", "--test-json"} & set(rest):
        model = [] if "--model" in rest else ["--model", MODEL]
        rest = [*model, "--test-json", "train.json", "--test-images", "photos", *rest]
    return [kind, *rest]


def run_maskrcnn(words, line):
    """Runs a command here; as a process of its own where it would become another program."""
    if "--num-gpus" in words:
        command = [sys.executable, "-m", "maskrcnn_lib.tools.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return
    redirected = re.search(r" > (\S+)$", line)
    with contextlib.ExitStack() as stack:
        if redirected:
            target = Path(redirected[1]).expanduser()
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(target.open("w"))))
        assert main(words) == 0, words
    assert not redirected or target.read_text()


def serve(words, programs):
    """Starts ``demo/serve.py`` on a port that is free, and waits until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [str(port) if word == "8000" else word for word in words]
    programs.append(subprocess.Popen([sys.executable, *words[1:]]))
    for _ in range(600):
        assert programs[-1].poll() is None, words
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return port
        time.sleep(0.1)
    raise AssertionError("the server does not answer")


def run_shell(line, number, programs):
    words = words_of(line)
    if words[0] == "maskrcnn":
        run_maskrcnn(with_stand_ins(words[1:], number), line)
    elif words[0] == "curl":
        if shutil.which("curl") is None:
            pytest.skip("there is no curl on this machine")
        port = programs[-1].args[-1]
        words = [word.replace(":8000/", f":{port}/") for word in words]
        done = subprocess.run([*words, "--fail"], capture_output=True, text=True, check=True)
        assert '"category_name":"cat"' in done.stdout
    elif words[:2] == ["python", "demo/serve.py"]:
        serve(words, programs)
    elif KEY.fullmatch(words[0]):
        assert main(["config", "e2e_mask_rcnn_R_50_FPN_1x", *words]) == 0
    else:
        raise AssertionError(f"no test knows how to run {line!r}")


def run_python(text, names):
    """Runs a block; what it prints is what its comments say where they do."""
    for name, stand_in in STAND_INS.items():
        text = text.replace(f'"{name}"', f'"{stand_in}"')
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, "<document>", "exec"), names)
    promised = re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE)
    assert not promised or printed.getvalue().splitlines() == promised


@pytest.mark.parametrize("document", HERE, ids=document_name)
def test_document_runs_from_top_to_bottom(document, workplace, programs):
    names = {}
    for number, (kind, text) in enumerate(steps(document)):
        if kind == "python":
            run_python(text, names)
        elif (document_name(document), text) not in NOT_RUN:
            run_shell(text, number, programs)


def test_commands_in_sentences_and_tables_run(workplace):
    Path("run").symlink_to("trained")
    shutil.copy("run/inference/instances_val2017/segm.json", "my.segm.json")
    commands = [command for document in DOCUMENTS for command in inline_commands(document)]
    done = set()
    for number, command in enumerate(commands):
        words = words_of(command)[1:]
        if len(words) == 1 or words[-1] == "--help":
            continue  # names a command
        words = with_stand_ins(completed(words), number)
        if tuple(words) not in done:
            run_maskrcnn(words, command)
            done.add(tuple(words))


def test_lines_that_are_not_run_stand_in_the_documents():
    lines = {(document_name(path), line) for path in DOCUMENTS for line in block_lines(path)}
    assert set(NOT_RUN) - lines == set()


def test_documents_with_a_test_of_their_own_are_named_by_it():
    for document, test in ELSEWHERE.items():
        assert Path(document).name in (ROOT / test).read_text(), document
