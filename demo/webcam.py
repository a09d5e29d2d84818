"""Shows what a model finds in front of a camera, as maskrcnn-benchmark's script of this name does.

    python demo/webcam.py --min-image-size 300 MODEL.DEVICE cpu
    python demo/webcam.py --camera holiday.mp4 --show-mask-heatmaps

Escape ends it. `maskrcnn video` writes a video instead.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from maskrcnn_lib import COCODemo
from maskrcnn_lib.data.video_input import open_frames
from maskrcnn_lib.engine.inference import choose_model
from maskrcnn_lib.tools.exit_codes import exit_code
from maskrcnn_lib.visualization.window import check_display, shown_until_escape


def show_in_window(picture: np.ndarray) -> bool:
    """Shows a BGR picture; returns whether to go on: Escape was not pressed."""
    return not shown_until_escape(picture, "COCO detections")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Detects objects in front of a camera")
    parser.add_argument("--config-file", metavar="F", help="default: the first model at hand")
    parser.add_argument("--weights", metavar="W", help="default: those of the config")
    parser.add_argument("--confidence-threshold", type=float, default=0.7, metavar="P")
    parser.add_argument(
        "--min-image-size",
        type=int,
        default=224,
        metavar="PIXELS",
        help="short side of the network's input; smaller is faster, default: 224",
    )
    parser.add_argument("--show-mask-heatmaps", action="store_true")
    parser.add_argument(
        "--masks-per-dim", type=int, default=2, metavar="N", help="rows of heat maps; default: 2"
    )
    parser.add_argument("--camera", default="0", help="number, video or directory; default: 0")
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after so many")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys and values")
    return parser.parse_args(argv)


def main(
    argv: Sequence[str] | None = None, show: Callable[[np.ndarray], bool] = show_in_window
) -> int:
    """Runs until the frames end or ``show(picture)`` returns False; returns the exit code."""
    args = parse(argv)
    if show is show_in_window:
        check_display()
    with open_frames(args.camera) as frames:
        cfg, weights = choose_model(
            config=args.config_file, weights=args.weights, overrides=args.opts
        )
        demo = COCODemo(
            cfg,
            confidence_threshold=args.confidence_threshold,
            show_mask_heatmaps=args.show_mask_heatmaps,
            masks_per_dim=args.masks_per_dim,
            min_image_size=args.min_image_size,
            weights=weights,
            color_by="class",
        )
        for frame in islice(frames, args.max_frames):
            start = time.perf_counter()
            picture = demo.run_on_opencv_image(frame[..., ::-1])
            print(f"{time.perf_counter() - start:.3f} s / image", flush=True)
            if not show(picture):
                break
    for reason in frames.failed.values():
        print(f"skipped: {reason}", file=sys.stderr)
    return 1 if frames.failed else 0


if __name__ == "__main__":
    sys.exit(exit_code("webcam.py", main))
