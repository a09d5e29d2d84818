"""Finds what a report or a table is made of: results, the data set they are of, training records.

Results come as COCO results files, or as a directory: one that ``maskrcnn test`` or a training
wrote, or one inside of it.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.data.datasets.build import build_test_datasets
from maskrcnn_lib.engine.events import read_records
from maskrcnn_lib.engine.measuring import DATASET_FILE
from maskrcnn_lib.engine.parts import complete_parts, is_part, parts_in
from maskrcnn_lib.visualization.draw import KEYPOINT_THRESHOLD

logger = logging.getLogger(__name__)

Results = list[dict[str, Any]]

# Per kind of result the key that makes a COCO result one of it.
_KEYS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
_OF_A_DETECTION = ("image_id", "category_id", "score")
_CONFIG = "config.yaml"
_RECORDS = "metrics.jsonl"


@dataclass
class Run:
    """What there is to report on.

    Attributes:
        name: of the data set, or of the run where there are no results.
        results: COCO results per kind.
        dataset: they are of; None where there are no results.
        has_images: whether the images of the data set are at hand.
        records: of the training.
        sigmas: of the keypoints, from the config; empty for COCO's.
    """

    name: str
    results: dict[str, Results] = field(default_factory=dict)
    dataset: Any = None
    has_images: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    sigmas: tuple[float, ...] = ()


def collect(
    sources: Sequence[str | Path],
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    config: str | Path | None = None,
    overrides: Sequence[Any] = (),
    dataset: str = "",
) -> Run:
    """Reads results and opens their data set.

    Args:
        sources: results files, of different kinds or of different images; or one directory; or
            several, with the parts of a data set.
        annotations: COCO JSON file; by default the one that ``maskrcnn test`` noted beside the
            results, or a data set of the config.
        images: directory of the images; where only ``annotations`` are given, pictures are not at
            hand.
        config: config name or file; by default the ``config.yaml`` of the run.
        overrides: config keys and values, alternating.
        dataset: name of the data set, where a run has results of several or the config names
            several.

    Raises:
        FileNotFoundError: a file or directory does not exist, or a directory holds neither results
            nor records of a training.
        ValueError: results cannot be read, are of several data sets, or no data set is known.
    """
    paths = [Path(source) for source in sources]
    is_folder = paths[0].is_dir()
    folder = _results_folder(paths, dataset) if is_folder else paths[0].parent
    records = _records_near(paths[0])
    if folder is None:
        if not records:
            raise FileNotFoundError(
                f"{paths[0]} holds neither results ({', '.join(f'{k}.json' for k in _KEYS)}) nor "
                f"{_RECORDS}: `maskrcnn test --output {paths[0]}` writes results"
            )
        return Run(paths[0].resolve().name, records=records)
    results = _read_folder(folder, paths) if is_folder else read_results(paths)
    config = config or _nearest(folder, _CONFIG)
    cfg = get_cfg(config, overrides) if config or overrides else None
    noted = _noted(folder, paths) if annotations is None else {}
    run = Run(dataset or folder.resolve().name, results, records=records)
    if cfg is not None:
        run.sigmas = tuple(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    annotations, images = annotations or noted.get("annotations"), images or noted.get("images")
    if annotations is not None:
        run.name = dataset or Path(annotations).stem
        run.has_images = images is not None
        # the directory of the annotations stands in: sizes of images are stated in the file
        run.dataset = COCODataset(annotations, images or Path(annotations).parent)
    else:
        run.name, run.dataset = _configured(cfg, run.name, folder)
        run.has_images = True
    return run


def read_results(paths: Iterable[str | Path]) -> dict[str, Results]:
    """COCO results per kind; a file whose results have boxes and masks gives both.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file does not hold COCO results, or two hold the same kind for an image.
    """
    results: dict[str, Results] = {}
    for path in map(Path, paths):
        entries = _read_entries(path)
        if path.stem in _KEYS:
            kinds = [path.stem]
        else:
            kinds = [kind for kind, key in _KEYS.items() if entries and key in entries[0]]
        if entries and not kinds:
            raise ValueError(f"{path}: results have none of {', '.join(_KEYS.values())}")
        if not kinds:
            logger.warning("%s holds no result, and its name no kind: it is left out", path)
        for kind in kinds:
            results[kind] = _joined(results.get(kind, []), entries, f"{path}: {kind}")
    if not results:
        raise ValueError("no results: nothing can be said about an unknown kind of result")
    return results


def with_keypoints(
    results: Mapping[str, Sequence[Mapping[str, Any]]], kind: str
) -> Sequence[Mapping[str, Any]]:
    """Results of one kind with the key points that were written for the same detections, if any;
    those that the model was not sure of are marked as not seen."""
    plain, points = results[kind], results.get("keypoints", ())
    marks = [[[e.get(key) for key in _OF_A_DETECTION] for e in part] for part in (plain, points)]
    if marks[0] != marks[1]:
        return plain
    return [{**a, "keypoints": _sure_points(b)} for a, b in zip(plain, points, strict=True)]


def _sure_points(result: Mapping[str, Any]) -> list[float]:
    """The key points of a result, the third number of those below the usual logit 0."""
    points, scores = list(result["keypoints"]), result.get("keypoint_scores")
    if scores is not None:
        points[2::3] = [
            seen if score > KEYPOINT_THRESHOLD else 0.0
            for seen, score in zip(points[2::3], scores, strict=True)
        ]
    return points


def _joined(known: Results, more: Results, what: str) -> Results:
    """Results of one kind for different images together."""
    twice = {e.get("image_id") for e in known} & {e.get("image_id") for e in more}
    if twice:
        raise ValueError(
            f"{what} results of {len(twice)} images, such as {min(twice, key=str)}, are in an "
            "earlier file, too: parts have to be of different images"
        )
    return [*known, *more]


def _read_entries(path: Path) -> Results:
    if not path.is_file():
        raise FileNotFoundError(f"no results file at {path}")
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if isinstance(entries, dict) and "annotations" in entries:
        raise ValueError(f"{path} is an annotation file; COCO results are a list")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} does not hold COCO results: a list of objects is expected")
    return entries


def _read_folder(folder: Path, sources: Sequence[Path]) -> dict[str, Results]:
    """The results in a directory of a data set, or of the parts that were named or lie in it."""
    if len(sources) > 1 or is_part(sources[0]):
        folders = complete_parts(sources)
    else:
        folders = complete_parts(parts_in(folder)) if not _has_results(folder) else [folder]
    return read_results(p for f in folders for kind in _KEYS if (p := f / f"{kind}.json").is_file())


def _has_results(folder: Path) -> bool:
    return any((folder / f"{kind}.json").is_file() for kind in _KEYS)


def _results_folder(sources: Sequence[Path], dataset: str) -> Path | None:
    """The directory of a data set with the results of a run; None where it has none."""
    folder = sources[0]
    if len(sources) > 1 or is_part(folder):
        return folder.resolve().parent
    places = [folder, *sorted(folder.glob("*/")), *sorted(folder.glob("inference/*/"))]
    found = [p for p in places if not is_part(p) and (_has_results(p) or parts_in(p))]
    if dataset and len(found) > 1:
        found = [p for p in found if p.name == dataset] or found
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise ValueError(f"{folder} has results of several data sets ({names}): choose --dataset")
    return found[0] if found else None


def _noted(folder: Path, sources: Sequence[Path]) -> Mapping[str, str]:
    """The annotations and images that the results, or their first part, were scored with."""
    places = [folder, sources[0], *parts_in(folder)]
    paths = [place / DATASET_FILE for place in places]
    path = next((path for path in paths if path.is_file()), paths[0])
    noted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if noted and not Path(noted["annotations"]).is_file():
        logger.warning("%s names %s, which is not there", path, noted["annotations"])
        return {}
    if noted and not Path(noted["images"]).is_dir():
        logger.warning("%s names %s, which is not there", path, noted["images"])
        return {"annotations": noted["annotations"]}
    return noted


def _configured(cfg: Any, name: str, folder: Path) -> tuple[str, Any]:
    """Name and data set out of ``DATASETS.TEST``."""
    datasets = build_test_datasets(cfg) if cfg is not None else {}
    if name in datasets:
        return name, datasets[name]
    if len(datasets) == 1:
        return next(iter(datasets.items()))
    if datasets:
        raise ValueError(f"which of {', '.join(datasets)} are the results of? Choose --dataset")
    raise ValueError(
        f"it is not known which data set the results in {folder} are of: give --test-json (and "
        "--test-images), or --config-file"
    )


def _nearest(start: Path, name: str) -> Path | None:
    """A file in a directory or up to two above it: results are in RUN/inference/NAME."""
    start = start.resolve()
    folders = [start, *start.parents][:3]
    return next((path for folder in folders if (path := folder / name).is_file()), None)


def _records_near(source: Path) -> list[dict[str, Any]]:
    path = _nearest(source if source.is_dir() else source.parent, _RECORDS)
    return read_records(path) if path is not None else []
