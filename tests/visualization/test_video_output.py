"""Videos that are written, read back by OpenCV; sound by PyAV."""

import os
import stat
import sys

import cv2
import numpy as np
import pytest

from maskrcnn_lib.visualization import video_output
from maskrcnn_lib.visualization.video_output import VideoWriter


def moving_square(count: int) -> list[np.ndarray]:
    """Frames of 96 x 64 pixels, RGB: a red square that moves to the right."""
    frames = np.full((count, 64, 96, 3), 40, np.uint8)
    for number, frame in enumerate(frames):
        frame[20:40, 4 * number : 4 * number + 20] = (220, 30, 30)
    return list(frames)


@pytest.fixture(params=["av", "cv2"])
def encoder(request, monkeypatch):
    """Both ways of writing; PyAV where it is installed."""
    if request.param == "av":
        pytest.importorskip("av")
    else:
        monkeypatch.setattr(video_output, "find_spec", lambda name: None)
    return request.param


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
def test_frames_come_back_in_order_and_colour(encoder, name, tmp_path):
    frames = moving_square(12)
    with VideoWriter(tmp_path / name, fps=12.5) as writer:
        for frame in frames:
            writer.write(frame)
    assert writer.frames == 12 and writer.note == ""
    capture = cv2.VideoCapture(str(tmp_path / name))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    for frame in frames:
        good, read = capture.read()
        assert good and np.abs(read[..., ::-1].astype(int) - frame).mean() < 5
    assert not capture.read()[0]


def test_a_video_is_complete_although_its_making_was_not(encoder, tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4", fps=10) as writer:
        for frame in moving_square(5):
            writer.write(frame)
        raise KeyboardInterrupt
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert [capture.read()[0] for _ in range(6)] == [True] * 5 + [False]


def test_a_frame_of_another_size_is_refused(encoder, tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=10) as writer:
        writer.write(np.zeros((64, 96, 3), np.uint8))
        with pytest.raises(ValueError, match="frame 1 has 64 x 96 pixels, but the video 96 x 64"):
            writer.write(np.zeros((96, 64, 3), np.uint8))


def with_sound(path, *, seconds: float) -> None:
    """A video of 10 frames a second with a tone of 440 Hz."""
    import av

    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for frame in moving_square(int(10 * seconds)):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(pictures.encode(None))
        wave = np.sin(np.arange(int(16000 * seconds)) * 2 * np.pi * 440 / 16000)
        samples = (wave * 8000).astype(np.int16)[None]
        tone = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        tone.sample_rate = 16000
        container.mux(sound.encode(tone))
        container.mux(sound.encode(None))


def sound_packets(path) -> list[bytes]:
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_sound_is_copied_as_it_is(tmp_path):
    pytest.importorskip("av")
    source, copy = tmp_path / "source.mp4", tmp_path / "copy.mp4"
    with_sound(source, seconds=2)
    with VideoWriter(copy, fps=10, sound_of=source) as writer:
        for frame in moving_square(20):
            writer.write(frame)
    before, after = sound_packets(source), sound_packets(copy)
    # the encoder's last packet may lie behind the last frame
    assert len(before) > 30 and after == before[: len(after)] and len(after) >= len(before) - 1


def test_sound_ends_with_the_pictures(tmp_path):
    pytest.importorskip("av")
    source, copy = tmp_path / "source.mp4", tmp_path / "copy.mp4"
    with_sound(source, seconds=2)
    with VideoWriter(copy, fps=10, sound_of=source) as writer:
        for frame in moving_square(5):
            writer.write(frame)
    assert 0.2 < len(sound_packets(copy)) / len(sound_packets(source)) < 0.35


def test_without_pyav_and_ffmpeg_a_note_says_what_sound_would_take(tmp_path, monkeypatch):
    monkeypatch.setattr(video_output, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with VideoWriter(tmp_path / "a.mp4", fps=10, sound_of=tmp_path / "other.mp4") as writer:
        writer.write(np.zeros((64, 96, 3), np.uint8))
    assert "pip install maskrcnn_lib[video]" in writer.note


@pytest.mark.parametrize("fails", [False, True])
def test_without_pyav_the_ffmpeg_program_adds_the_sound(fails, tmp_path, monkeypatch):
    """A stand-in for the program writes its last argument, the file to make."""
    program = tmp_path / "ffmpeg"
    ending = "sys.exit('no such sound')" if fails else "open(sys.argv[-1], 'w').write('joined')"
    program.write_text(f"#!{sys.executable}\nimport sys\n{ending}\n")
    os.chmod(program, os.stat(program).st_mode | stat.S_IXUSR)
    monkeypatch.setattr(video_output, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "a.mp4"
    with VideoWriter(path, fps=10, sound_of=tmp_path / "other.mp4") as writer:
        writer.write(np.zeros((64, 96, 3), np.uint8))
    assert (path.read_bytes() == b"joined") == (not fails)
    assert ("no such sound" in writer.note) == fails
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "ffmpeg"]
