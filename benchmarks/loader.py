"""Images per second and core from file to network input: this library against its peers.

    OMP_NUM_THREADS=1 python benchmarks/loader.py IMAGE_DIRECTORY [--min-size 800] [--rounds 7]

All rows run on one thread; in each round, each of them goes through all images. A row's time is
the CPU time of the process, so that other programs on the machine disturb it little; the table
shows the median over the rounds of the mean per image. Files are read once before, so that they
come from memory.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import alternate

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.image_io import find_images, read_image
from maskrcnn_lib.data.transforms import build_transform
from maskrcnn_lib.data.transforms.image_transform import resize_image


def _pillow_decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _rows(min_size: int) -> dict[str, Callable[[Path], object]]:
    """What is measured, peers first."""
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    cfg = get_cfg(overrides=["INPUT.MIN_SIZE_TEST", min_size])
    transform = build_transform(cfg)
    peer = GeneralizedRCNNTransform(min_size, 1333, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    def pillow_resize(path: Path) -> object:
        with Image.open(path) as image:
            height, width = transform.size_of(image.height, image.width)
            return np.asarray(image.convert("RGB").resize((width, height), Image.BILINEAR))

    def pillow_all(path: Path) -> object:
        pixels = torch.from_numpy(np.array(pillow_resize(path))).permute(2, 0, 1).flip(0).float()
        return pixels - torch.tensor(cfg.INPUT.PIXEL_MEAN).view(3, 1, 1)

    def torchvision_all(path: Path) -> object:
        pixels = torch.from_numpy(_pillow_decode(path).copy()).permute(2, 0, 1).float() / 255
        return peer([pixels])

    def our_resize(path: Path) -> object:
        image = read_image(path)
        return resize_image(image, transform.size_of(*image.shape[:2]))

    return {
        "decode: Pillow": _pillow_decode,
        "decode: maskrcnn_lib": read_image,
        "decode + resize: Pillow": pillow_resize,
        "decode + resize: maskrcnn_lib": our_resize,
        "decode + resize + normalise: Pillow, torch": pillow_all,
        "decode + resize + normalise: torchvision": torchvision_all,
        "decode + resize + normalise: maskrcnn_lib": lambda path: transform(read_image(path)),
    }


def measure(paths: list[Path], min_size: int, rounds: int) -> dict[str, float]:
    """Median over the rounds of the milliseconds of CPU time per image, by row."""
    rows = _rows(min_size)

    def through_all(run: Callable[[Path], object]) -> None:
        for path in paths:
            run(path)

    calls = [partial(through_all, run) for run in rows.values()]
    seconds = alternate(calls, rounds, time.process_time)
    return {name: taken / len(paths) * 1e3 for name, taken in zip(rows, seconds, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", help="image files or directories")
    parser.add_argument("--min-size", type=int, default=800, help="short side after resizing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=int, default=80, help="use at most this many images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = list(find_images(options.images))[: options.limit]
    pixels = [read_image(path).shape[:2] for path in paths]
    megapixels = sum(height * width for height, width in pixels) / len(paths) / 1e6
    print(f"{len(paths)} images of {megapixels:.3f} MP on average, short side {options.min_size}")
    print(f"{'':45}{'ms/image':>10}{'images/s/core':>15}")
    for name, milliseconds in measure(paths, options.min_size, options.rounds).items():
        print(f"{name:45}{milliseconds:>10.2f}{1e3 / milliseconds:>15.0f}")


if __name__ == "__main__":
    main()
