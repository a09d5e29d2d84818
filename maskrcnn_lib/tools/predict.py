"""``maskrcnn predict``: detects objects on images and writes pictures and COCO results."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskrcnn_lib.tools.interruption import uninterrupted
from maskrcnn_lib.tools.model_options import (
    add_confidence_argument,
    add_model_arguments,
    least_score,
    published_model,
)
from maskrcnn_lib.utils.writing import named_errors

if TYPE_CHECKING:
    from maskrcnn_lib.engine.predictor import COCODemo
    from maskrcnn_lib.structures.bounding_box import BoxList
    from maskrcnn_lib.structures.keypoint import Keypoints

PICTURES = ("png", "jpg", "pdf")
FORMATS = (*PICTURES, "json", "coco-dataset")


@dataclass
class Summary:
    """What a run of :func:`predict` did.

    Attributes:
        found: per image read, what was found on it as (class name, score) by descending score.
        failed: per input that does not exist, could not be read or is too thin for the model, the
            reason.
        written: files written.
    """

    found: dict[Path, list[tuple[str, float]]] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)


def predict(
    images: Iterable[str | Path],
    *,
    model: str | None = None,
    config: str | Path | None = None,
    weights: str | Path | None = None,
    output: str | Path = "output",
    confidence: float | None = None,
    formats: Sequence[str] = ("png", "json"),
    suffixes: Sequence[str] = (),
    show_mask_heatmaps: bool = False,
    color_by: str = "instance",
    overrides: Sequence[Any] = (),
    progress: bool = True,
) -> Summary:
    """Runs a model over images and writes what it finds.

    Args:
        images: files, directories and glob patterns.
        model: name of a published model, which is that of its config; its trained weights are
            taken. By default a COCO model whose weights are at hand, else the small one that comes
            with the package.
        config: config name or file, instead of ``model``.
        weights: path, catalog name or URL; by default those of ``model``, or the config's
            ``MODEL.WEIGHT``.
        output: directory, made if needed. Pictures are named after the images; where several
            images have one name, after their directories, too.
            ``coco_results.json`` holds COCO results; ``coco_predictions.json`` holds the same as
            a COCO data set with images and categories; with keypoints its categories have their
            names and connections. ``coco_dataset.json`` is such a data set with outlines that
            annotation tools let one edit, instead of run lengths.
        confidence: detections with a lower score are left out; by default 0.7, and 0.35 with the
            packaged model, whose scores are low.
        formats: some of ``png``, ``jpg``, ``pdf`` (one page an image), ``json`` (results and
            predictions) and ``coco-dataset``.
        suffixes: which files of directories to take; by default all common image formats.
        show_mask_heatmaps: pictures show the mask probabilities instead of outlines.
        color_by: "instance" or "class", see :class:`maskrcnn_lib.engine.predictor.COCODemo`.
        overrides: config keys and values, alternating.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: none of the inputs exists, or the weights cannot be had.
        ValueError: an unknown format, a confidence outside 0..1, or a picture that would take the
            place of an image.
        KeyboardInterrupt: Ctrl-C; what was finished until then is kept, JSON files included.
    """
    from maskrcnn_lib.engine.inference import choose_model
    from maskrcnn_lib.engine.predictor import COCODemo

    least = least_score(confidence, published_model(model, config, weights, overrides))
    paths, missing = _find(images, suffixes)
    pictures = _picture_paths(paths, Path(output), formats)
    cfg, weights = choose_model(model=model, config=config, weights=weights, overrides=overrides)
    demo = COCODemo(
        cfg, least, show_mask_heatmaps=show_mask_heatmaps, weights=weights, color_by=color_by
    )
    writer = _Writer(demo, Path(output), pictures, formats)
    summary = Summary(failed=missing)
    try:
        _detect(demo, paths, writer, summary, progress=progress)
    except KeyboardInterrupt:
        done = f"{len(summary.found)} of {len(paths)} images are done, see {output}"
        raise KeyboardInterrupt(done) from None
    finally:
        with uninterrupted():
            summary.written = writer.finish()
    return summary


def _find(
    sources: Iterable[str | Path], suffixes: Sequence[str]
) -> tuple[list[Path], dict[Path, str]]:
    """The images of all sources, each once; and per source that has none, the reason."""
    from maskrcnn_lib.data.image_io import find_images

    paths: dict[Path, None] = {}
    missing: dict[Path, str] = {}
    for source in sources:
        try:
            paths |= dict.fromkeys(find_images([source], suffixes))
        except OSError as error:
            missing[Path(source)] = str(error)
    if missing and not paths:
        raise FileNotFoundError("; ".join(missing.values()))
    return list(paths), missing


def _detect(
    demo: "COCODemo", paths: Sequence[Path], writer: "_Writer", summary: Summary, *, progress: bool
) -> None:
    """Goes through the images; Ctrl-C ends it between two of them."""
    from maskrcnn_lib.data.image_io import read_image
    from maskrcnn_lib.utils.progress_bar import progress_bar

    with progress_bar(len(paths), "image", shown=progress) as bar:
        for path in paths:
            try:
                image = read_image(path)
                (found,) = demo.detector([image])
            except (OSError, ValueError) as error:
                named = str(path) in str(error)
                summary.failed[path] = str(error) if named else f"{path}: {error}"
                bar.update()
                continue
            top = demo.select_top_predictions(found)
            names = [demo.class_name(label) for label in top.get_field("labels").tolist()]
            scores = top.get_field("scores").tolist()
            with uninterrupted():
                writer.add(path, image, top)
                summary.found[path] = list(zip(names, scores, strict=True))
            bar.update()


class _Writer:
    """Writes pictures as they come and the JSON files at the end."""

    def __init__(
        self,
        demo: "COCODemo",
        output: Path,
        pictures: dict[Path, list[Path]],
        formats: Sequence[str],
    ) -> None:
        self._demo = demo
        self._output = output
        self._pictures = pictures
        self._formats = formats
        self._file_names = _names_of(list(pictures), with_suffix=True)
        self._written: list[Path] = []
        self._results: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._keypoints: Keypoints | None = None
        output.mkdir(parents=True, exist_ok=True)

    def add(self, path: Path, image: np.ndarray, predictions: "BoxList") -> None:
        if self._pictures[path]:
            self._write_pictures(path, image, predictions)
        if set(self._formats) - set(PICTURES):
            self._collect(path, predictions)

    def finish(self) -> list[Path]:
        """Writes the JSON files; returns all files written."""
        if "json" in self._formats:
            self._dump("coco_results.json", self._results)
            self._dump("coco_predictions.json", self._as_dataset(polygons=False))
        if "coco-dataset" in self._formats:
            self._dump("coco_dataset.json", self._as_dataset(polygons=True))
        return self._written

    def _write_pictures(self, path: Path, image: np.ndarray, predictions: "BoxList") -> None:
        from PIL import Image

        drawn = self._demo.draw(image[..., ::-1], predictions)
        picture = Image.fromarray(np.ascontiguousarray(drawn[..., ::-1]))
        for target in self._pictures[path]:
            with named_errors(target):
                picture.save(target)
            self._written.append(target)

    def _collect(self, path: Path, predictions: "BoxList") -> None:
        from maskrcnn_lib.checkpoint.class_names import published_category_ids

        image_id = len(self._images) + 1
        width, height = predictions.size
        self._images.append(
            {
                "id": image_id,
                "file_name": self._file_names[path],
                "width": width,
                "height": height,
            }
        )
        self._results += predictions.to_coco(
            image_id=image_id,
            category_ids=published_category_ids(self._demo.CATEGORIES),
            paste=self._demo.detector.paste_rule,
        )
        if predictions.has_field("keypoints"):
            self._keypoints = predictions.get_field("keypoints")

    def _as_dataset(self, *, polygons: bool) -> dict[str, Any]:
        from maskrcnn_lib.checkpoint.class_names import UNUSED, published_category_ids
        from maskrcnn_lib.evaluation.predicted_dataset import predicted_dataset

        names = self._demo.CATEGORIES
        named = dict(zip(published_category_ids(names)[1:], names[1:], strict=True))
        return predicted_dataset(
            self._images,
            self._results,
            names={category: name for category, name in named.items() if name != UNUSED},
            keypoints=self._keypoints,
            polygons=polygons,
        )

    def _dump(self, name: str, content: Any) -> None:
        target = self._output / name
        with named_errors(target):
            target.write_text(json.dumps(content))
        self._written.append(target)


def _picture_paths(
    paths: Sequence[Path], output: Path, formats: Sequence[str]
) -> dict[Path, list[Path]]:
    """The pictures to write of each image, one for each format."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"format {unknown[0]!r} is unknown; choose from {', '.join(FORMATS)}")
    suffixes = [name for name in formats if name in PICTURES]
    names = _names_of(paths, with_suffix=False)
    pictures = {
        path: [output / f"{names[path].replace('/', '_')}.{suffix}" for suffix in suffixes]
        for path in paths
    }
    images = {path.resolve() for path in paths}
    for picture in (target for targets in pictures.values() for target in targets):
        if picture.resolve() in images:
            raise ValueError(
                f"the picture {picture} would take the place of an image; "
                "name another directory for the output"
            )
    return pictures


def _names_of(paths: Sequence[Path], *, with_suffix: bool) -> dict[Path, str]:
    """A name of its own for each image: as short as the others allow.

    That is the stem where it may be (not ``with_suffix``), the file's name, or the path from the
    directory that holds all images.
    """
    stems, names = Counter(path.stem for path in paths), Counter(path.name for path in paths)
    chosen = {}
    for path in paths:
        if names[path.name] > 1:
            root = os.path.commonpath([other.absolute().parent for other in paths])
            chosen[path] = path.absolute().relative_to(root).as_posix()
        elif with_suffix or stems[path.stem] > 1:
            chosen[path] = path.name
        else:
            chosen[path] = path.stem
    return chosen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE|DIR|GLOB", help="files, directories, glob patterns"
    )
    add_model_arguments(parser)
    add_confidence_argument(parser)
    parser.add_argument("--output", metavar="DIR", default="output", help="default: output")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["png", "json"],
        dest="formats",
        help="what to write; coco-dataset: annotations to correct by hand; default: png json",
    )
    parser.add_argument(
        "--image-ext",
        nargs="+",
        default=[],
        metavar="EXT",
        help="which files of directories, as in: jpg png",
    )
    parser.add_argument(
        "--show-mask-heatmaps", action="store_true", help="draw the masks' probabilities"
    )
    parser.add_argument(
        "--color-by",
        choices=("instance", "class"),
        default="instance",
        help="what the colours tell apart; default: instance",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0, or 1 if an input does not exist or could not be read."""
    from maskrcnn_lib.engine.inference import advice_on

    summary = predict(
        args.images,
        model=args.model,
        config=args.config_file,
        weights=args.weights,
        output=args.output,
        confidence=args.confidence,
        formats=args.formats,
        suffixes=[ext if ext.startswith(".") else f".{ext}" for ext in args.image_ext],
        show_mask_heatmaps=args.show_mask_heatmaps,
        color_by=args.color_by,
        overrides=args.opts,
    )
    for path, found in summary.found.items():
        listing = ", ".join(f"{name} {score:.2f}" for name, score in found) or "nothing"
        print(f"{path.name}: {listing}")
    advice = advice_on(published_model(args.model, args.config_file, args.weights, args.opts))
    if advice:
        print(advice)
    if summary.written:
        print(f"{len(summary.written)} files written to {args.output}")
    for reason in summary.failed.values():
        print(f"skipped: {reason}", file=sys.stderr)
    if summary.failed:
        total = len(summary.found) + len(summary.failed)
        print(f"{len(summary.failed)} of {total} inputs skipped", file=sys.stderr)
    return 1 if summary.failed else 0
