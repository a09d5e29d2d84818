"""Names for data sets and weights, so that a config needs no paths.

The two catalogs have maskrcnn-benchmark's names. A project's own catalogs can take their place: the
config key ``PATHS_CATALOG`` names a Python file that defines ``DatasetCatalog`` and
``ModelCatalog``, each with a ``get(name)``.
"""

import difflib
import re
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from maskrcnn_lib.config.model_entries import MODEL_ENTRIES, ModelEntry

_PATH_KEYS = ("img_dir", "ann_file", "ann_dir", "data_dir")
_COCO_PATTERN = re.compile(r"coco:(?P<annotations>.+?\.json):(?P<images>.+)", re.IGNORECASE)


class DatasetCatalog:
    """Where the data sets lie below ``DATA_DIR``.

    An entry of ``DATASETS`` holds paths relative to ``DATA_DIR``. Its keys say what it is:
    ``ann_file`` and ``img_dir`` a COCO-format set, ``ann_dir`` and ``img_dir`` Cityscapes,
    ``data_dir`` Pascal VOC.
    """

    DATA_DIR: ClassVar[str] = "datasets"
    DATASETS: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def get(cls, name: str) -> dict[str, Any]:
        """Constructor of a data set and its arguments.

        Args:
            name: an entry of ``DATASETS``, or ``"coco:ANNOTATIONS.json:IMAGE_DIR"`` with paths of
                one's own.

        Returns:
            ``{"factory": class name, "args": keyword arguments}``.

        Raises:
            KeyError: names the nearest entries.
            ValueError: a ``coco:`` line that is not complete.
        """
        if name.startswith("coco:"):
            return _coco_line(name)
        if name not in cls.DATASETS:
            raise KeyError(
                f"dataset {name!r} is not in the catalog{_nearest(name, cls.DATASETS)}; a set of "
                'your own is written "coco:ANNOTATIONS.json:IMAGE_DIR"'
            )
        entry = cls.DATASETS[name]
        args = {
            key: str(Path(cls.DATA_DIR, value)) if key in _PATH_KEYS else value
            for key, value in entry.items()
        }
        if "ann_file" in args:
            args["root"] = args.pop("img_dir")
            return {"factory": "COCODataset", "args": args}
        if "ann_dir" in args:
            return {"factory": "CityScapesDataset", "args": args}
        return {"factory": "PascalVOCDataset", "args": args}


class ModelCatalog:
    """Published weights by name; see ``model_entries``."""

    @staticmethod
    def names() -> list[str]:
        """All names, in catalog order."""
        return list(MODEL_ENTRIES)

    @staticmethod
    def entry(name: str) -> ModelEntry:
        """The entry called ``name``; raises KeyError that names the nearest ones."""
        if name not in MODEL_ENTRIES:
            raise KeyError(
                f"weights {name!r} are not in the catalog{_nearest(name, MODEL_ENTRIES)}"
            )
        return MODEL_ENTRIES[name]

    @staticmethod
    def get(name: str) -> str:
        """Address of the weights called ``name``; "" where they are not published for download."""
        return ModelCatalog.entry(name).url

    @staticmethod
    def for_config(config: str) -> list[ModelEntry]:
        """Entries whose model the named config builds."""
        return [entry for entry in MODEL_ENTRIES.values() if config == (entry.config or entry.name)]


def load_dataset_catalog(path: str | Path = "") -> Any:
    """``DatasetCatalog`` of the Python file ``cfg.PATHS_CATALOG``; the library's own for "".

    The file is run; name only files that you trust.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not define the class.
    """
    return _load_class(path, "DatasetCatalog") if str(path) else DatasetCatalog


def load_model_catalog(path: str | Path = "") -> Any:
    """``ModelCatalog`` of the Python file ``cfg.PATHS_CATALOG``; as ``load_dataset_catalog``."""
    return _load_class(path, "ModelCatalog") if str(path) else ModelCatalog


def _load_class(path: str | Path, name: str) -> Any:
    file = Path(path).expanduser()
    spec = spec_from_file_location("maskrcnn_lib_user_paths_catalog", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise FileNotFoundError(f"PATHS_CATALOG {str(path)!r} is not a Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise ValueError(f"PATHS_CATALOG {file} must define a class {name}")
    return getattr(module, name)


def _coco_line(name: str) -> dict[str, Any]:
    match = _COCO_PATTERN.fullmatch(name)
    if match is None:
        raise ValueError(
            f"dataset {name!r} must be written coco:ANNOTATIONS.json:IMAGE_DIR, for example "
            "coco:data/train.json:data/images"
        )
    return {
        "factory": "COCODataset",
        "args": {"ann_file": match["annotations"], "root": match["images"]},
    }


def _nearest(name: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _coco_entries() -> dict[str, dict[str, Any]]:
    entries = {}
    for prefix, kind in (("", "instances"), ("keypoints_", "person_keypoints")):
        for split in ("train", "val"):
            entries[f"{prefix}coco_2017_{split}"] = {
                "img_dir": f"coco/{split}2017",
                "ann_file": f"coco/annotations/{kind}_{split}2017.json",
            }
        for split in ("train", "val", "minival", "valminusminival"):
            images = "train" if split == "train" else "val"
            entries[f"{prefix}coco_2014_{split}"] = {
                "img_dir": f"coco/{images}2014",
                "ann_file": f"coco/annotations/{kind}_{split}2014.json",
            }
    return entries


def _voc_entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for year, split in product((2007, 2012), ("train", "val", "test")):
        folder = f"voc/VOC{year}"
        entries[f"voc_{year}_{split}"] = {"data_dir": folder, "split": split}
        if (year, split) != (2012, "test"):  # whose annotations were never published
            entries[f"voc_{year}_{split}_cocostyle"] = {
                "img_dir": f"{folder}/JPEGImages",
                "ann_file": f"{folder}/Annotations/pascal_{split}{year}.json",
            }
    return entries


def _cityscapes_entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {
        f"cityscapes_fine_instanceonly_seg_{split}_cocostyle": {
            "img_dir": "cityscapes/images",
            "ann_file": f"cityscapes/annotations/instancesonly_filtered_gtFine_{split}.json",
        }
        for split in ("train", "val", "test")
    }
    for mode in ("poly", "mask"):
        for name in ("train", "val", "minival"):
            split = "val" if name == "minival" else name
            entry = {
                "img_dir": f"cityscapes/leftImg8bit/{split}",
                "ann_dir": f"cityscapes/gtFine/{split}",
                "split": split,
                "mode": mode,
            }
            if name == "minival":
                entry |= {"mini": 10}
            entries[f"cityscapes_{mode}_instance_{name}"] = entry
    return entries


DatasetCatalog.DATASETS |= _coco_entries() | _voc_entries() | _cityscapes_entries()
