"""Writing a video frame by frame, with the sound of another one.

With PyAV (``pip install maskrcnn_lib[video]``) it is H.264, which every browser plays, and sound is
copied without loss. Without it OpenCV writes MPEG-4 part 2, and sound is copied by the ``ffmpeg``
program where there is one.
"""

import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

# What OpenCV calls its MPEG-4 encoder in each kind of file.
_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "XVID"}
# Constant rate factor of H.264: 18 is said to be visually lossless, 23 is the encoder's default.
_QUALITY = "20"


class _Encoder(Protocol):
    def write(self, frame: np.ndarray) -> None: ...

    def close(self) -> str: ...


class VideoWriter:
    """Writes (H, W, 3) uint8 RGB frames of one size; a context manager.

    The encoder halves the resolution of colours, so that a last odd column or row is left out. The
    file is complete and playable however the block ends, Ctrl-C included.

    Args:
        path: file with a name ending in .mp4, .m4v, .mov, .mkv or .avi; directories are made.
        fps: frames a second.
        sound_of: video file whose sound is taken over, or None.

    Attributes:
        note: after the end, what became of the sound where that is not as asked for; else "".
        frames: number of frames written.

    Raises:
        ValueError: a file name of another kind; a frame of another size than the first.
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | Path, *, fps: float, sound_of: str | Path | None = None) -> None:
        self.path = Path(path)
        self.note = ""
        self.frames = 0
        self._fps = fps
        self._sound_of = sound_of
        self._encoder: _Encoder | None = None
        self._size: tuple[int, int] | None = None
        check_name(self.path)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._encoder is not None:
            self.note = self._encoder.close()

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame."""
        height, width = frame.shape[:2]
        if self._size is None:
            self._size = (height, width)
            self._encoder = self._open(width - width % 2, height - height % 2)
        if (height, width) != self._size:
            raise ValueError(
                f"frame {self.frames} has {width} x {height} pixels, but the video "
                f"{self._size[1]} x {self._size[0]}"
            )
        even = frame[: height - height % 2, : width - width % 2]
        self._encoder.write(np.ascontiguousarray(even))
        self.frames += 1

    def _open(self, width: int, height: int) -> _Encoder:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        encoder = _AvEncoder if find_spec("av") else _CvEncoder
        return encoder(self.path, self._fps, (width, height), self._sound_of)


def check_name(path: str | Path) -> None:
    """Raises ValueError where a file's name does not say a kind of video that can be written."""
    if Path(path).suffix.lower() not in _CODECS:
        raise ValueError(f"cannot write {path} as a video; name it {', '.join(_CODECS)}")


class _AvEncoder:
    """H.264 by PyAV; sound is copied packet by packet, as far as the pictures reach."""

    def __init__(
        self, path: Path, fps: float, size: tuple[int, int], sound_of: str | Path | None
    ) -> None:
        import av

        self._container = av.open(str(path), "w")
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": _QUALITY}
        self._seconds_a_frame = float(1 / rate)
        self._frames = 0
        self._copied_to = 0.0  # seconds
        self._source = av.open(str(sound_of)) if sound_of is not None else None
        self._sound, self._packets = self._take_sound()

    def _take_sound(self) -> tuple[Any, Iterator[Any]]:
        """The stream for the sound, if there is any, and its packets, read as they are needed."""
        if self._source is None or not self._source.streams.audio:
            return None, iter(())
        audio = self._source.streams.audio[0]
        # the last packet is an empty one, without a time
        packets = (packet for packet in self._source.demux(audio) if packet.dts is not None)
        return self._container.add_stream_from_template(audio), packets

    def write(self, frame: np.ndarray) -> None:
        import av

        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        self._container.mux(self._stream.encode(picture))
        self._frames += 1
        self._copy_sound(self._frames * self._seconds_a_frame)

    def close(self) -> str:
        self._container.mux(self._stream.encode(None))
        if self._source is not None:
            self._source.close()
        self._container.close()
        return ""

    def _copy_sound(self, end: float) -> None:
        """Copies the packets up to a time, so that sound and pictures lie side by side."""
        while self._copied_to < end:
            packet = next(self._packets, None)
            if packet is None:
                return
            self._copied_to = float((packet.dts + packet.duration) * packet.time_base)
            packet.stream = self._sound
            self._container.mux(packet)


class _CvEncoder:
    """MPEG-4 part 2 by OpenCV; sound by the ``ffmpeg`` program."""

    def __init__(
        self, path: Path, fps: float, size: tuple[int, int], sound_of: str | Path | None
    ) -> None:
        import cv2

        self._path = path
        self._sound_of = sound_of
        code = cv2.VideoWriter_fourcc(*_CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(path), code, fps, size)
        if not self._writer.isOpened():
            raise OSError(f"OpenCV cannot write the video {path}")

    def write(self, frame: np.ndarray) -> None:
        self._writer.write(frame[..., ::-1])

    def close(self) -> str:
        self._writer.release()
        return "" if self._sound_of is None else _add_sound(self._path, self._sound_of)


def _add_sound(path: Path, sound_of: str | Path) -> str:
    """Puts the sound of another file, if it has any, into the video; returns why not, or ""."""
    program = shutil.which("ffmpeg")
    if program is None:
        return (
            "sound, if there was any, is left out: copying it takes PyAV "
            "(pip install maskrcnn_lib[video]) or the ffmpeg program"
        )
    joined = path.with_name(f".{path.stem}.sound{path.suffix}")
    inputs = ["-i", str(path), "-i", str(sound_of)]
    # "?": a video without sound is no error
    streams = ["-map", "0:v", "-map", "1:a?", "-c", "copy", "-shortest"]
    command = [program, "-v", "error", "-y", *inputs, *streams, str(joined)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        joined.unlink(missing_ok=True)
        return f"sound is left out: ffmpeg says {result.stderr.strip()}"
    joined.replace(path)
    return ""
