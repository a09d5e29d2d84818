"""``maskrcnn video``: detects objects in a video, frame by frame, and writes a video."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskrcnn_lib.tools.argument_types import count
from maskrcnn_lib.tools.interruption import uninterrupted
from maskrcnn_lib.tools.model_options import (
    add_confidence_argument,
    add_model_arguments,
    least_score,
    published_model,
)

if TYPE_CHECKING:
    from maskrcnn_lib.engine.predictor import COCODemo
    from maskrcnn_lib.visualization.video_output import VideoWriter

_WINDOW = "maskrcnn"


@dataclass
class VideoSummary:
    """What a run of :func:`video` did.

    Attributes:
        frames: number of frames written.
        failed: per file that could not be read, or not wholly, the reason.
        note: what the user should know of the sound, or "".
    """

    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    note: str = ""


def video(
    source: str | Path | int,
    *,
    output: str | Path = "result.mp4",
    model: str | None = None,
    config: str | Path | None = None,
    weights: str | Path | None = None,
    confidence: float | None = None,
    batch_size: int = 1,
    max_frames: int | None = None,
    show: bool = False,
    overrides: Sequence[Any] = (),
    progress: bool = True,
) -> VideoSummary:
    """Draws what a model finds onto each frame; memory does not grow with the video.

    Args:
        source: video file, directory of frames (25 a second) or number of a camera.
        output: video file, see :class:`maskrcnn_lib.visualization.video_output.VideoWriter`; it
            has the frames, their rate and size, and the sound of the source.
        model, config, weights, confidence: as of :func:`maskrcnn_lib.tools.predict.predict`.
        batch_size: frames that go through the network together.
        max_frames: stop after so many.
        show: also show the frames in a window; Escape ends the run.
        overrides: config keys and values, alternating.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: there is no such source, or the weights cannot be had.
        ValueError: the source is no video or gives no frame; an option cannot be meant.
        OSError: a window is asked for, but there is no display.
        KeyboardInterrupt: Ctrl-C; the frames until then are kept.
    """
    from maskrcnn_lib.data.video_input import open_frames
    from maskrcnn_lib.engine.inference import choose_model
    from maskrcnn_lib.engine.predictor import COCODemo
    from maskrcnn_lib.utils.progress_bar import progress_bar
    from maskrcnn_lib.visualization.video_output import VideoWriter, check_name
    from maskrcnn_lib.visualization.window import check_display

    if batch_size < 1 or (max_frames is not None and max_frames < 1):
        raise ValueError("batch_size and max_frames must be at least 1")
    least = least_score(confidence, published_model(model, config, weights, overrides))
    check_name(output)
    if show:
        check_display()
    with open_frames(source) as frames:
        _refuse_to_overwrite(Path(str(source)), Path(output))
        cfg, chosen = choose_model(model=model, config=config, weights=weights, overrides=overrides)
        demo = COCODemo(cfg, least, weights=chosen, color_by="class")
        limits = [limit for limit in (frames.count, max_frames) if limit is not None]
        writer = VideoWriter(output, fps=frames.fps, sound_of=_sound_of(source))
        drawn = draw_frames(demo, islice(frames, max_frames), batch_size=batch_size)
        bar = progress_bar(min(limits, default=None), "frame", shown=progress)
        try:
            with writer, bar:
                _write(drawn, writer, bar, show=show)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{writer.frames} frames are kept in {output}") from None
    if not writer.frames:
        raise ValueError(f"{source} gives no frame that can be read")
    return VideoSummary(writer.frames, frames.failed, writer.note)


def draw_frames(
    demo: "COCODemo", frames: Iterable[np.ndarray], *, batch_size: int = 1
) -> Iterator[np.ndarray]:
    """Yields each frame with what is found on it; holds one batch at a time.

    Args:
        frames: (H, W, 3) uint8 RGB.
        batch_size: frames that go through the network together.

    Yields:
        (H, W, 3) uint8 RGB.
    """
    rest = iter(frames)
    while batch := list(islice(rest, batch_size)):
        for frame, found in zip(batch, demo.detector(batch), strict=True):
            drawn = demo.draw(frame[..., ::-1], demo.select_top_predictions(found))
            yield drawn[..., ::-1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    parser.add_argument("source", metavar="IN", help="video file, directory or camera number")
    add_model_arguments(parser)
    add_confidence_argument(parser)
    parser.add_argument(
        "--output", metavar="FILE", default="result.mp4", help="default: result.mp4"
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        default=1,
        metavar="N",
        help="frames that go through the network together; default: 1",
    )
    parser.add_argument("--max-frames", type=count, metavar="N", help="stop after so many")
    parser.add_argument("--show", action="store_true", help="show a window, too; Escape ends")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0, or 1 if a file could not be read wholly."""
    summary = video(
        args.source,
        output=args.output,
        model=args.model,
        config=args.config_file,
        weights=args.weights,
        confidence=args.confidence,
        batch_size=args.batch_size,
        max_frames=args.max_frames,
        show=args.show,
        overrides=args.opts,
    )
    print(f"{summary.frames} frames written to {args.output}")
    if summary.note:
        print(summary.note)
    for reason in summary.failed.values():
        print(f"skipped: {reason}", file=sys.stderr)
    return 1 if summary.failed else 0


def _refuse_to_overwrite(source: Path, output: Path) -> None:
    if output.exists() and source.exists() and output.samefile(source):
        raise ValueError(f"{output} would take the place of the video that is read")


def _sound_of(source: str | Path | int) -> Path | None:
    """The file whose sound goes with the frames, if they come from a file."""
    path = Path(str(source))
    return path if path.is_file() else None


def _write(drawn: Iterable[np.ndarray], writer: "VideoWriter", bar: Any, *, show: bool) -> None:
    """Writes all frames, or those until Escape is pressed in the window."""
    from maskrcnn_lib.visualization.window import shown_until_escape

    for frame in drawn:
        with uninterrupted():
            writer.write(frame)
        bar.update()
        if show and shown_until_escape(frame[..., ::-1], _WINDOW):
            return
