"""From names in a config to data sets."""

import inspect
from pathlib import Path
from typing import Any

from maskrcnn_lib.config.architecture import class_section, only_proposes
from maskrcnn_lib.config.node import CfgNode
from maskrcnn_lib.config.paths_catalog import load_dataset_catalog
from maskrcnn_lib.data.datasets.cityscapes import CityScapesDataset
from maskrcnn_lib.data.datasets.coco import COCODataset
from maskrcnn_lib.data.datasets.concat import ConcatDataset
from maskrcnn_lib.data.datasets.voc import PascalVOCDataset
from maskrcnn_lib.data.datasets.with_proposals import DatasetWithProposals
from maskrcnn_lib.data.proposals import read_proposals

_FACTORIES = {
    "COCODataset": COCODataset,
    "PascalVOCDataset": PascalVOCDataset,
    "CityScapesDataset": CityScapesDataset,
}
_MIN_VISIBLE_KEYPOINTS = 10  # of an image in keypoint training, by maskrcnn-benchmark
_SHOWN_NAMES = 10


def build_dataset(cfg: CfgNode, name: str, *, is_train: bool = False) -> Any:
    """One data set.

    For training, images without objects are left out unless ``DATALOADER.KEEP_EMPTY``, objects
    without a mask are left out where the model predicts masks, and Pascal VOC's difficult objects
    are left out. Otherwise everything is kept. With ``MODEL.LOAD_PROPOSALS``, targets carry the
    proposals of the file that stands at the data set's place in ``DATASETS.PROPOSAL_FILES_*``.

    Args:
        cfg: reads PATHS_CATALOG, DATALOADER.KEEP_EMPTY, MODEL.MASK_ON and MODEL.KEYPOINT_ON.
        name: of a catalog entry, or ``"coco:ANNOTATIONS.json:IMAGE_DIR"``. The ``factory`` of an
            entry is the name of one of this library's data sets, or any callable.

    Raises:
        KeyError: the catalog, or this library, does not know the name.
        ValueError: its annotations cannot be used.
    """
    entry = load_dataset_catalog(cfg.PATHS_CATALOG).get(name)
    factory, args = entry["factory"], dict(entry["args"])
    if isinstance(factory, str):
        if factory not in _FACTORIES:
            raise KeyError(
                f"data set {name} is a {factory!r}, which is none of {', '.join(_FACTORIES)}; a "
                "catalog of your own can give the class itself as factory"
            )
        factory = _FACTORIES[factory]
    if factory in _FACTORIES.values():
        known = inspect.signature(factory).parameters
        chosen = {key: v for key, v in _choices(cfg, is_train=is_train).items() if key in known}
        args = {**chosen, **args}
    dataset = factory(**args)
    return _with_proposals(cfg, name, dataset, is_train) if cfg.MODEL.LOAD_PROPOSALS else dataset


def _with_proposals(cfg: CfgNode, name: str, dataset: Any, is_train: bool) -> Any:
    phase, settings = "TRAIN" if is_train else "TEST", cfg.DATASETS
    files = dict(zip(settings[phase], settings[f"PROPOSAL_FILES_{phase}"], strict=False))
    if name not in files:
        raise ValueError(
            f"MODEL.LOAD_PROPOSALS: DATASETS.PROPOSAL_FILES_{phase} names no file for {name}"
        )
    limit = settings[f"PRECOMPUTED_PROPOSAL_TOPK_{phase}"]
    proposals = read_proposals(files[name], limit=limit)
    return DatasetWithProposals(dataset, proposals, source=files[name])


def _choices(cfg: CfgNode, *, is_train: bool) -> dict[str, Any]:
    """Arguments that depend on what the data are for."""
    keypoints = _MIN_VISIBLE_KEYPOINTS if cfg.MODEL.KEYPOINT_ON else 0
    return {
        "remove_images_without_annotations": is_train and not cfg.DATALOADER.KEEP_EMPTY,
        "require_masks": is_train and cfg.MODEL.MASK_ON,
        "min_visible_keypoints": keypoints,
        "use_difficult": not is_train,
    }


def build_test_datasets(cfg: CfgNode) -> dict[str, Any]:
    """``DATASETS.TEST``, whole, by names that can name directories.

    An entry ``"coco:annotations/val.json:images"`` is called ``val``.
    """
    datasets: dict[str, Any] = {}
    for entry in cfg.DATASETS.TEST:
        name = Path(entry.split(":")[1]).stem if ":" in entry else entry
        while name in datasets:
            name += "_"
        datasets[name] = build_dataset(cfg, entry)
    return datasets


def build_train_dataset(cfg: CfgNode, *, check_classes: bool = True) -> Any:
    """All of ``DATASETS.TRAIN`` as one data set.

    Args:
        check_classes: compare its classes with the model's.

    Raises:
        ValueError: no data set is named, none has an image left, or NUM_CLASSES disagrees.
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError(
            "no training data: set DATASETS.TRAIN, for example to "
            '("coco:annotations.json:images_dir",)'
        )
    parts = [build_dataset(cfg, name, is_train=True) for name in cfg.DATASETS.TRAIN]
    dataset = parts[0] if len(parts) == 1 else ConcatDataset(parts)
    if not len(dataset):
        raise ValueError(
            f"no image with objects in {', '.join(cfg.DATASETS.TRAIN)}; `maskrcnn check-dataset` "
            "says what they hold"
        )
    if check_classes:
        check_num_classes(cfg, dataset)
    return dataset


def write_reports(dataset: Any, directory: str | Path) -> list[Path]:
    """Lists what the validation of training data found, in one CSV file per annotation file.

    Args:
        dataset: one data set or a ConcatDataset; parts without findings write nothing.
        directory: gets ``annotations_0.csv``, ``annotations_1.csv``, ... by the part's number.
    """
    written = []
    for number, part in enumerate(getattr(dataset, "datasets", [dataset])):
        report = getattr(part, "report", None)
        if report is not None and report.findings:
            written.append(Path(directory) / f"annotations_{number}.csv")
            report.write(written[-1])
    return written


def class_count(dataset: Any) -> int | None:
    """Number of classes with background; None for a data set that does not say."""
    categories = getattr(dataset, "categories", None)
    return len(categories) + 1 if categories else None


def check_num_classes(cfg: CfgNode, dataset: Any) -> None:
    """Compares the model's classes and keypoints with those of its training data.

    Data sets of users' own that have no ``categories`` are not checked.

    Raises:
        ValueError: they disagree; the message says both numbers.
    """
    head = class_section(cfg)
    stated, count = cfg.MODEL[head].NUM_CLASSES, class_count(dataset)
    if count is not None and stated != count and not only_proposes(cfg):
        names = list(dataset.categories.values())
        more = ", ..." if len(names) > _SHOWN_NAMES else ""
        raise ValueError(
            f"MODEL.{head}.NUM_CLASSES is {stated}, but the training data have {count - 1} classes "
            f"({', '.join(names[:_SHOWN_NAMES])}{more}), which with the background makes {count}: "
            f"set MODEL.{head}.NUM_CLASSES {count}"
        )
    if cfg.MODEL.KEYPOINT_ON:
        _check_keypoints(cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES, dataset)


def _check_keypoints(stated: int, dataset: Any) -> None:
    """Compares the number of keypoints with the data, and those of the parts with each other."""
    names = None
    for part in getattr(dataset, "datasets", [dataset]):
        points = getattr(part, "keypoint_count", None)
        if points is not None and points != stated:
            raise ValueError(
                f"MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES is {stated}, but the training data have "
                f"{points} keypoints per object{_in(part, dataset)}"
            )
        skeleton = getattr(part, "skeleton", None)
        if skeleton is None:
            continue
        names = names or skeleton.names
        if skeleton.names != names:
            raise ValueError(
                f"one data set has the keypoints {', '.join(names)}, but "
                f"{', '.join(skeleton.names)}{_in(part, dataset)}: rename or reorder them, so that "
                "both agree"
            )


def _in(part: Any, dataset: Any) -> str:
    """Where a part of several lies, for messages."""
    return "" if part is dataset else f" in {getattr(part, 'source', type(part).__name__)}"
