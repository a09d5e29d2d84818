"""``maskrcnn video``: real videos in, videos out; what was read is written, frame for frame."""

import signal
import subprocess
import sys
import time
import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.tools.cli import main
from maskrcnn_lib.tools.video import draw_frames, video

MODEL = "d2go/mask_rcnn_fbnetv3a_C4"
# A small input of the network: these tests are about videos.
SMALL = ["INPUT.MIN_SIZE_TEST", "160"]


@pytest.fixture
def videos(test_data, monkeypatch):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    return test_data / "videos"


def read_frames(path) -> tuple[list[np.ndarray], float]:
    """All frames of a video, BGR, and its frames a second."""
    capture = cv2.VideoCapture(str(path))
    fps, frames = capture.get(cv2.CAP_PROP_FPS), []
    while True:
        good, frame = capture.read()
        if not good:
            return frames, fps
        frames.append(frame)


@pytest.mark.data
def test_frames_rate_and_size_are_the_video_s(videos, tmp_path, capsys):
    output = tmp_path / "made" / "result.mp4"
    command = ["video", str(videos / "mmpose_demo.mp4"), "--model", MODEL, "--output", str(output)]
    assert main([*command, "--threshold", "0.5"]) == 0
    assert "5 frames written" in capsys.readouterr().out
    before, fps = read_frames(videos / "mmpose_demo.mp4")
    after, new_fps = read_frames(output)
    assert [f.shape for f in after] == [f.shape for f in before] and new_fps == fps
    # what is drawn covers a part; the rest is the frame, but for lossy compression
    for old, new in zip(before, after, strict=True):
        distance = np.abs(old.astype(int) - new).max(axis=-1)
        assert np.median(distance) < 12 and (distance > 60).mean() > 0.005


@pytest.mark.data
def test_batches_change_nothing_but_the_number_of_passes(videos, tmp_path):
    source, outputs = videos / "mmdet_demo.mp4", []
    for size in (1, 3):
        path = tmp_path / f"{size}.mp4"
        done = video(
            source, output=path, model=MODEL, batch_size=size, max_frames=4, overrides=SMALL
        )
        assert done.frames == 4 and not done.failed
        outputs.append(read_frames(path)[0])
    assert len(outputs[0]) == 4
    for one, three in zip(*outputs, strict=True):
        # scores may move in the last digit drawn; pictures are the same
        assert (np.abs(one.astype(int) - three) > 30).mean() < 0.002


@pytest.mark.data
def test_a_directory_of_frames_names_those_it_leaves_out(videos, tmp_path, capsys):
    frames, _ = read_frames(videos / "mmpose_demo.mp4")
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame[:41, :61, ::-1]).save(folder / f"{number:03}.png")
    (folder / "003.png").write_bytes(b"nothing")
    Image.fromarray(frames[0]).save(folder / "004.png")
    output = tmp_path / "result.mp4"
    arguments = ["video", str(folder), "--model", MODEL, "--output", str(output), *SMALL]
    assert main(arguments) == 1
    errors = capsys.readouterr().err
    assert "003.png" in errors and "004.png has 960 x 540 pixels, the first frame 61 x 41" in errors
    written, fps = read_frames(output)
    # pictures of odd sizes lose a column and a row to the encoder
    assert [f.shape for f in written] == [(40, 60, 3)] * 3 and fps == 25


@pytest.mark.data
def test_a_file_that_ends_early_is_named(videos, tmp_path, capsys):
    """The index of an mp4 file stands at its front here, its frames are cut off."""
    data = (videos / "one-by-one-person-detection.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: data.index(b"mdat") + 40_000])
    output = tmp_path / "result.mp4"
    code = main(["video", str(cut), "--model", MODEL, "--output", str(output), *SMALL])
    captured = capsys.readouterr()
    written = len(read_frames(output)[0])
    assert 0 < written < 200
    assert code == 1 and f"ends after {written} of 1394 frames" in captured.err


class _Detector:
    """Finds nothing, and counts the frames that are alive when it is asked."""

    def __init__(self):
        self.alive = weakref.WeakSet()
        self.most = 0

    def __call__(self, frames):
        self.most = max(self.most, sum(1 for _ in self.alive))
        return [None] * len(frames)


class _Frame(np.ndarray):
    """An array that can be put into a WeakSet."""

    __hash__ = object.__hash__


@pytest.mark.parametrize("batch_size", [1, 4])
def test_no_more_than_a_batch_of_frames_is_held(batch_size):
    detector = _Detector()
    demo = SimpleNamespace(
        detector=detector,
        select_top_predictions=lambda found: found,
        draw=lambda frame, found: np.array(frame) + 1,
    )

    def frames():
        for number in range(50):
            frame = np.full((8, 8, 3), number, np.uint8).view(_Frame)
            detector.alive.add(frame)
            yield frame
            del frame

    values = [int(drawn[0, 0, 0]) for drawn in draw_frames(demo, frames(), batch_size=batch_size)]
    assert values == list(range(1, 51))
    # the last batch may still be held while the next one is read
    assert batch_size <= detector.most <= 2 * batch_size + 1


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "limit", "count", "fps", "size"),
    [
        ("mmdet_demo", None, 67, 30, (720, 1280)),
        ("one-by-one-person-detection", 100, 100, 10, (432, 768)),
    ],
)
def test_every_frame_of_real_videos_is_written(
    name, limit, count, fps, size, videos, tmp_path, capsys
):
    """As ``video_demo.py VIDEO CONFIG CHECKPOINT --out result.mp4``."""
    output = tmp_path / "result.mp4"
    weights = str(videos.parent / "weights" / "mask_rcnn_fbnetv3a_float.pth")
    command = ["video", str(videos / f"{name}.mp4"), "--config-file", MODEL, "--weights", weights]
    command += ["--output", str(output), "--threshold", "0.3"]
    command += ["--max-frames", str(limit)] if limit else []
    assert main([*command, *SMALL]) == 0
    captured = capsys.readouterr()
    assert f"{count} frames written" in captured.out and f"{count}/{count}" in captured.err
    frames, new_fps = read_frames(output)
    assert len(frames) == count and new_fps == fps
    assert {frame.shape for frame in frames} == {(*size, 3)}
    before = read_frames(videos / f"{name}.mp4")[0]
    drawn = [
        (np.abs(old.astype(int) - new).max(axis=-1) > 60).mean()
        for old, new in zip(before, frames, strict=False)
    ]
    assert np.mean(np.greater(drawn, 1e-3)) > 0.3  # not all frames show something


@pytest.mark.data
def test_sound_goes_with_the_frames(videos, tmp_path):
    """Five frames a second of a second's tone, as the encoder wrote it."""
    av = pytest.importorskip("av")
    source, output = tmp_path / "sound.mp4", tmp_path / "result.mp4"
    with av.open(str(source), "w") as container:
        pictures = container.add_stream("libx264", rate=5)
        pictures.width, pictures.height, pictures.pix_fmt = 240, 136, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for frame in read_frames(videos / "mmpose_demo.mp4")[0]:
            small = np.ascontiguousarray(cv2.resize(frame, (240, 136)))
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(small, format="bgr24")))
        container.mux(pictures.encode(None))
        wave = (8000 * np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000)).astype(np.int16)
        tone = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        tone.sample_rate = 16000
        container.mux(sound.encode(tone))
        container.mux(sound.encode(None))
    assert main(["video", str(source), "--model", MODEL, "--output", str(output), *SMALL]) == 0
    packets = []
    for path in (source, output):
        with av.open(str(path)) as container:
            packets.append([bytes(p) for p in container.demux(audio=0) if p.size])
    before, after = packets
    # the encoder's last packet may lie behind the last frame
    assert len(after) >= len(before) - 1 > 10 and after == before[: len(after)]


@pytest.mark.slow
@pytest.mark.data
def test_memory_does_not_grow_with_the_length(videos, tmp_path):
    """Peaks of two processes; 400 frames of 768 x 432 would be 400 MB."""
    code = (
        "import resource, sys\n"
        "from maskrcnn_lib.tools.video import video\n"
        f"video({str(videos / 'one-by-one-person-detection.mp4')!r}, output=sys.argv[1],"
        f" model={MODEL!r}, max_frames=int(sys.argv[2]), overrides={SMALL!r}, progress=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for frames in ("20", "400"):
        command = [sys.executable, "-c", code, str(tmp_path / "out.mp4"), frames]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 60


@pytest.mark.slow
@pytest.mark.data
def test_ctrl_c_leaves_a_video_of_the_frames_until_then(videos, tmp_path):
    output = tmp_path / "result.mp4"
    command = [sys.executable, "-m", "maskrcnn_lib.tools.cli", "video"]
    source = str(videos / "one-by-one-person-detection.mp4")
    options = ["--model", MODEL, "--output", str(output), *SMALL]
    process = subprocess.Popen([*command, source, *options], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not (output.exists() and output.stat().st_size > 20_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    frames, fps = read_frames(output)
    assert 0 < len(frames) < 1394 and fps == 10
    assert f"{len(frames)} frames are kept in {output}" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.mp4"], "nowhere.mp4"),
        ([__file__], "as a video"),
        (["987"], "camera 987 does not answer; there "),
        ([__file__, "--output", "out.gif"], "name it .mp4"),
    ],
)
def test_wrong_input_is_named(arguments, message, capsys):
    assert main(["video", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--batch-size", "--max-frames"])
def test_no_frames_at_all_are_wrong_usage(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["video", __file__, option, "0"])
    assert f"{option}: 0 is not at least 1" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_a_window_without_a_display_is_refused_before_anything_is_done(
    videos, tmp_path, monkeypatch, capsys
):
    """The toolkit inside OpenCV would end the process with SIGABRT at the first frame."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    output = tmp_path / "result.mp4"
    source = str(videos / "mmpose_demo.mp4")
    assert main(["video", source, "--show", "--output", str(output)]) == 1
    assert "there is no display" in capsys.readouterr().err
    assert not output.exists()


def test_a_camera_that_is_not_there_is_said_in_one_line(capfd):
    """Every reader inside OpenCV would have its own say."""
    assert main(["video", "987"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and "camera 987" in lines[0] and "MASKRCNN_TRACEBACK" in lines[1]


@pytest.mark.data
def test_the_video_that_is_read_is_never_written(videos, tmp_path, capsys):
    source = tmp_path / "a.mp4"
    source.write_bytes((videos / "mmpose_demo.mp4").read_bytes())
    assert main(["video", str(source), "--output", str(source)]) == 1
    assert "take the place" in capsys.readouterr().err
    assert source.read_bytes() == (videos / "mmpose_demo.mp4").read_bytes()
