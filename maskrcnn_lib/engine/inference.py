"""The one way from raw images to detections; demo, command line and evaluation all take it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint import LoadReport, load_weights
from maskrcnn_lib.checkpoint.download import find_local, resolve_weights
from maskrcnn_lib.checkpoint.native import FORMAT
from maskrcnn_lib.config import CfgNode, get_cfg
from maskrcnn_lib.config.architecture import num_classes, only_proposes
from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.config.paths_catalog import ModelCatalog, load_model_catalog
from maskrcnn_lib.config.validation import keys_not_followed
from maskrcnn_lib.data.transforms import build_transform
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.fast_model import make_fast
from maskrcnn_lib.engine.loader_inference import inference
from maskrcnn_lib.engine.test_time_augmentation import AugmentedDetector, build_augmentation
from maskrcnn_lib.modeling.detector import build_detection_model

__all__ = [
    "DEFAULT_MODELS",
    "DTYPES",
    "PACKAGED_MODEL",
    "Detector",
    "Weights",
    "advice_on",
    "build_detector",
    "choose_model",
    "default_model",
    "inference",
    "make_detector",
    "published_weights",
    "resolve_device",
    "usual_confidence",
]

logger = logging.getLogger(__name__)

# Comes with the package, so that there is always a model.
PACKAGED_MODEL = "maskrcnn_lib/mask_rcnn_mobilenetv2"
# Needs a download of 178 MB, and finds far more.
ACCURATE_MODEL = "torchvision/maskrcnn_resnet50_fpn"
# The first one whose weights lie on this machine is taken when no model is named.
DEFAULT_MODELS = ("d2go/mask_rcnn_fbnetv3a_C4", ACCURATE_MODEL, PACKAGED_MODEL)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Weights = str | Path | Mapping[str, Tensor]


def default_model() -> str:
    """Name of the first default model whose weights lie on this machine; nothing is downloaded."""
    for name in DEFAULT_MODELS:
        if find_local(name) is not None:
            return name
    return DEFAULT_MODELS[-1]


def published_weights(name: str) -> str | None:
    """Catalog name of the trained weights that are known for a config; None if there are none.

    ``MODEL.WEIGHT`` of maskrcnn-benchmark's configs names the ImageNet body that training begins
    with, which is not what one wants to look at images with.
    """
    entries = ModelCatalog.for_config(name)
    return f"catalog://{entries[0].name}" if entries else None


def usual_confidence(name: str | None) -> float:
    """Score above which detections of a published model are shown; the packaged one's are low."""
    return 0.35 if name == PACKAGED_MODEL else 0.7


def advice_on(name: str | None) -> str:
    """What a user of the packaged model should know: how good it is, what is better; else ""."""
    if name != PACKAGED_MODEL:
        return ""
    return (
        f"This was {name}, the {ModelCatalog.entry(name).note}. More accurate, after a download of "
        f"178 MB: maskrcnn predict --model {ACCURATE_MODEL} IMAGE"
    )


def choose_model(
    *,
    model: str | None = None,
    config: str | Path | None = None,
    weights: Weights | None = None,
    overrides: Sequence[Any] = (),
) -> tuple[CfgNode, Weights | None]:
    """Config and weights for what a user names on a command line.

    Args:
        model: name of a published model, which is that of its config; comes with its weights.
        config: config name or file, used as it is; wins over ``model``.
        weights: path, catalog name or URL; wins over all others.
        overrides: config keys and values, alternating; ``MODEL.WEIGHT`` among them wins over the
            published weights.

    Returns:
        The resolved config, and the weights if they are not those of ``MODEL.WEIGHT``. With
        neither ``model`` nor ``config`` it is the default model.
    """
    if config is not None:
        return get_cfg(config, overrides), weights
    name = model or default_model()
    if weights is None and "MODEL.WEIGHT" not in overrides:
        weights = published_weights(name)
    return get_cfg(name, overrides), weights


def resolve_device(name: str) -> torch.device:
    """The device that ``MODEL.DEVICE`` names.

    ``"auto"`` is the GPU where there is one. On a machine without any, a GPU becomes the CPU, with
    a warning.

    Raises:
        ValueError: there is no such device.
    """
    wanted = name if name != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ValueError(
            f"MODEL.DEVICE {name!r} is no device; use auto, cpu, cuda or cuda:1"
        ) from error
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE is %r but no CUDA device is usable: running on the CPU", name)
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise ValueError(
            f"MODEL.DEVICE is {name!r}, but this machine has {count} GPUs, from cuda:0"
        )
    return device


def build_detector(
    cfg: Any,
    weights: Weights | None = None,
    *,
    min_image_size: int | None = None,
    allow_proposals: bool = False,
    pack: bool = True,
) -> Detector:
    """Builds the model of ``cfg``, loads its weights and makes it ready for inference.

    Args:
        cfg: resolved configuration.
        weights: path, catalog name, URL or state dict; by default ``MODEL.WEIGHT``.
        min_image_size: short side of the network's input instead of ``INPUT.MIN_SIZE_TEST``.
        allow_proposals: also take a model that stops after the proposals.
        pack: on the CPU, replace layers by faster ones that exist nowhere else.

    Raises:
        ValueError: no weights were named, or they leave a part of the model random.
        FileNotFoundError: the weights cannot be had; the message says where to put them.
    """
    weights = weights if weights is not None else cfg.MODEL.WEIGHT
    if isinstance(weights, str | Path) and not str(weights):
        raise ValueError(
            "no weights: the config's MODEL.WEIGHT is empty; pass weights= (on the command line "
            "--weights) with a path, an URL or a catalog name"
        )
    for key in keys_not_followed(cfg):
        logger.warning("%s is set, but this version does not follow it", key)
    if only_proposes(cfg) and not allow_proposals:
        raise ValueError("MODEL.RPN_ONLY: such a model gives proposals, no detections to show")
    model = build_detection_model(cfg)
    source = weights
    if isinstance(weights, str | Path):
        source = resolve_weights(weights, catalog=load_model_catalog(cfg.PATHS_CATALOG))
    report = load_weights(model, source)
    _check_fit(report, cfg.MODEL.DIALECT)
    device = resolve_device(cfg.MODEL.DEVICE)
    model = make_fast(model, device, DTYPES[cfg.DTYPE], pack=pack)
    return make_detector(
        cfg,
        model,
        device=device,
        class_names=_class_names(report, num_classes(cfg)),
        report=report,
        min_image_size=min_image_size,
    )


def make_detector(
    cfg: Any,
    model: nn.Module,
    *,
    device: torch.device,
    class_names: Sequence[str],
    report: LoadReport | None = None,
    min_image_size: int | None = None,
) -> Detector:
    """A model that is ready for inference as a detector of raw images.

    It looks at each several times where the config asks for test-time augmentation.

    Args:
        cfg: resolved configuration of the model.
        model: on ``device``.
        device, class_names, report: as of :class:`maskrcnn_lib.engine.detector.Detector`.
        min_image_size: short side of the network's input instead of ``INPUT.MIN_SIZE_TEST``.
    """
    settings = {
        "transform": build_transform(cfg, min_size=min_image_size),
        "dialect": get_dialect(cfg.MODEL.DIALECT),
        "size_divisible": cfg.DATALOADER.SIZE_DIVISIBILITY,
        "device": device,
        "dtype": DTYPES[cfg.DTYPE],
        "class_names": class_names,
        "report": report,
        "only_proposes": only_proposes(cfg),
    }
    augmentation = None if only_proposes(cfg) else build_augmentation(cfg, min_size=min_image_size)
    if augmentation is None:
        return Detector(model, **settings)
    return AugmentedDetector(model, augmentation=augmentation, **settings)


def _check_fit(report: LoadReport, dialect: str) -> None:
    """Refuses weights that leave the model half random; warns of other conventions."""
    if report.missing or report.reinitialised:
        hint = "are they those of an ImageNet body, or of another config?"
        if report.format == FORMAT:
            hint = "the config.yaml that their training wrote beside them fits them"
        raise ValueError(
            "these weights do not fill the model, so that its detections would be random; "
            f"{hint}\n{report}"
        )
    if report.dialect is not None and report.dialect != dialect:
        logger.warning(
            "these weights were trained under the conventions of %s, but MODEL.DIALECT is %s: "
            "expect other numbers than the published ones",
            report.dialect,
            dialect,
        )


def _class_names(report: LoadReport, num_classes: int) -> tuple[str, ...]:
    """The checkpoint's names where it knows them for this class count, else numbers."""
    if report.class_names and len(report.class_names) == num_classes:
        return tuple(report.class_names)
    return ("__background", *(f"class {label}" for label in range(1, num_classes)))
