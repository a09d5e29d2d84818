"""Frames of a video file, a directory of images or a camera, one at a time."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_lib.data.image_io import find_images, read_image

# Frames a second where the source does not say: a directory, and some cameras.
USUAL_FPS = 25.0


@dataclass
class Frames:
    """An open source of frames; iterating gives each frame once, and holds none.

    Attributes:
        source: as the user named it.
        fps: frames a second.
        count: frames that the source announces; None where it does not, as a camera.
        frames: the frames themselves, read as they are asked for.
        failed: filled while iterating: files that could not be read, or not wholly, and why.
    """

    source: str
    fps: float
    count: int | None
    frames: Iterable[np.ndarray]
    failed: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields (H, W, 3) uint8 RGB."""
        yield from self.frames


@contextmanager
def open_frames(source: str | Path | int) -> Iterator[Frames]:
    """Opens a video.

    Args:
        source: a video file, a directory of images (taken in the order of their names), or the
            number of a camera, from 0.

    Yields:
        :class:`Frames`, all of one size; images of a directory that differ are left out and named.

    Raises:
        FileNotFoundError: there is no such file, or no image in the directory.
        ValueError: the file is not a video, or the camera does not answer.
    """
    path = Path(str(source))
    if path.is_dir():
        yield _open_directory(path)
        return
    camera = str(source).isdigit() and not path.exists()
    if not camera and not path.is_file():
        raise FileNotFoundError(f"no video, directory of frames or camera number: {source}")
    capture = _open_capture(int(source) if camera else str(source))
    try:
        yield _captured_frames(capture, str(source), camera=camera)
    finally:
        capture.release()


def _open_directory(path: Path) -> Frames:
    files = list(find_images([path]))
    failed: dict[str, str] = {}
    return Frames(str(path), USUAL_FPS, len(files), _read_files(files, failed), failed)


def _read_files(files: Iterable[Path], failed: dict[str, str]) -> Iterator[np.ndarray]:
    """Yields the images that are as large as the first; names all others in ``failed``."""
    size = None
    for file in files:
        try:
            frame = read_image(file)
        except (ValueError, FileNotFoundError) as error:
            failed[str(file)] = str(error)
            continue
        height, width = frame.shape[:2]
        size = size or (height, width)
        if (height, width) != size:
            failed[str(file)] = (
                f"{file} has {width} x {height} pixels, the first frame {size[1]} x {size[0]}"
            )
            continue
        yield frame


def _open_capture(source: str | int) -> Any:
    import cv2

    # of a camera that is not there every part of OpenCV that could read one writes a complaint
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(source)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if capture.isOpened():
        return capture
    capture.release()
    if isinstance(source, str):
        raise ValueError(f"cannot open {source} as a video")
    raise ValueError(f"camera {source} does not answer; {_cameras_here()}")


def _cameras_here() -> str:
    if sys.platform != "linux":
        return "is it connected, allowed to this program, and not in use by another one?"
    devices = ", ".join(sorted(glob("/dev/video*")))
    return f"there are {devices}" if devices else "there is none here: no /dev/video*"


def _captured_frames(capture: Any, source: str, *, camera: bool) -> Frames:
    import cv2

    fps = capture.get(cv2.CAP_PROP_FPS)
    count = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    announced = count if count > 0 and not camera else None
    usable = fps if 0 < fps < float("inf") else USUAL_FPS
    failed: dict[str, str] = {}
    frames = _read_capture(capture, source, announced, usable, failed)
    return Frames(source, usable, announced, frames, failed)


def _read_capture(
    capture: Any, source: str, announced: int | None, fps: float, failed: dict[str, str]
) -> Iterator[np.ndarray]:
    import cv2

    number = 0
    while True:
        good, frame = capture.read()
        if not good:
            break
        number += 1
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    # containers without an index announce an estimate, which is off by less than a second
    if announced is not None and (number == 0 or number < announced - fps):
        failed[source] = f"{source} ends after {number} of {announced} frames: it is damaged"
