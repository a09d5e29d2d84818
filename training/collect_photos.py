"""Gathers photos and frames of videos from directories, for a teacher to label.

    python training/collect_photos.py DIRECTORY ... --not-like VAL demo/images --output photos

Photos are shrunk to 640 pixels. Left out are pages of text and drawings (a single colour covers
much of them), what looks like another photo, and what looks like one of ``--not-like``, so that
nothing is learnt from images that are measured on.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS, VIDEOS = (".jpg", ".jpeg", ".webp"), (".mp4", ".avi")
FRAME_STEP = 25
LONG_SIDE = 640
SHORTEST_SIDE = 160
LARGEST_RATIO = 3.0
# Bits of 256 in which the prints of the same photo may differ (other size, other compression).
SAME_PHOTO = 24
LARGEST_FLAT_SHARE = 0.45


def fingerprint(image: Image.Image) -> np.ndarray:
    """(256,) bool: whether it gets brighter from left to right, on a grid of 16 x 16."""
    grey = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), np.int16)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def flat_share(image: Image.Image) -> float:
    """Share of the image that its most frequent colour (of 2^18) covers."""
    colors = np.asarray(image.resize((96, 96)), np.int64) >> 2
    codes = (colors[..., 0] << 12) | (colors[..., 1] << 6) | colors[..., 2]
    return np.unique(codes, return_counts=True)[1].max() / codes.size


def find_images(directory: Path) -> Iterator[Image.Image]:
    """All photos below ``directory``, and every 25th frame of the videos."""
    for path in sorted(directory.rglob("*")):
        if path.suffix.lower() in PHOTOS:
            try:
                yield Image.open(path).convert("RGB")
            except OSError:
                print(f"{path} cannot be read as an image", file=sys.stderr)
        elif path.suffix.lower() in VIDEOS:
            yield from _frames(path)


def _frames(path: Path) -> Iterator[Image.Image]:
    import cv2

    video, number = cv2.VideoCapture(str(path)), 0
    while True:
        found, frame = video.read()
        if not found:
            if number == 0:
                print(f"{path} cannot be read as a video", file=sys.stderr)
            return
        if number % FRAME_STEP == 0:
            yield Image.fromarray(np.ascontiguousarray(frame[..., ::-1]))
        number += 1


def refusal(image: Image.Image, seen: list[np.ndarray], forbidden: list[np.ndarray]) -> str:
    """Why an image is left out; "" where it is not."""
    if min(image.size) < SHORTEST_SIDE or max(image.size) > LARGEST_RATIO * min(image.size):
        return "too small or too narrow"
    if flat_share(image) > LARGEST_FLAT_SHARE:
        return "no photo"
    bits = fingerprint(image)
    for prints, reason in ((forbidden, "measured on"), (seen, "seen before")):
        if prints and (np.stack(prints) != bits).sum(axis=1).min() <= SAME_PHOTO:
            return reason
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--not-like", nargs="+", type=Path, default=[])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    forbidden = [fingerprint(image) for folder in args.not_like for image in find_images(folder)]
    seen: list[np.ndarray] = []
    outcome: Counter[str] = Counter()
    args.output.mkdir(parents=True, exist_ok=True)
    for image in (image for folder in args.directories for image in find_images(folder)):
        reason = refusal(image, seen, forbidden)
        outcome[reason or "taken"] += 1
        if not reason:
            seen.append(fingerprint(image))
            image.thumbnail((LONG_SIDE, LONG_SIDE))
            image.save(args.output / f"{len(seen):05d}.jpg", quality=92)
    print(", ".join(f"{count} {name}" for name, count in sorted(outcome.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
