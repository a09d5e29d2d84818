"""The one way from raw images to detections; demo, command line and evaluation all take it."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint import LoadReport, load_weights
from maskrcnn_lib.checkpoint.download import find_local, resolve_weights
from maskrcnn_lib.config import CfgNode, get_cfg
from maskrcnn_lib.config.architecture import num_classes, only_proposes
from maskrcnn_lib.config.dialects import Dialect, PasteRule, get_dialect
from maskrcnn_lib.config.paths_catalog import ModelCatalog, load_model_catalog
from maskrcnn_lib.config.validation import keys_not_followed
from maskrcnn_lib.data.transforms import ImageTransform, build_transform
from maskrcnn_lib.engine.loader_inference import inference
from maskrcnn_lib.engine.postprocess import restore_original_size
from maskrcnn_lib.layers.packed import pack_layers
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import to_image_list

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


class Detector:
    """A trained model with everything that it needs to run on raw images.

    Args:
        model: in evaluation mode, on ``device``; takes an ImageList, gives one BoxList per image.
        transform: from uint8 RGB to the normalised tensor.
        dialect: conventions of the model's toolbox.
        size_divisible: batches are padded to a multiple of this; 0 for none.
        device: of the model.
        dtype: of the network's arithmetic; other than float32 runs under autocast.
        class_names: name per label, index 0 being the background.
        report: how the weights were loaded.
        only_proposes: the model gives regions with field ``objectness``, no detections.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        transform: ImageTransform,
        dialect: Dialect,
        size_divisible: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        class_names: Sequence[str] = (),
        report: LoadReport | None = None,
        only_proposes: bool = False,
    ) -> None:
        self.model = model
        self.transform = transform
        self.dialect = dialect
        self.size_divisible = size_divisible
        self.device = device
        self.dtype = dtype
        self.class_names = tuple(class_names)
        self.report = report
        self.only_proposes = only_proposes

    @property
    def paste_rule(self) -> PasteRule:
        """How this model's masks are pasted into the image."""
        return self.dialect.paste_rule

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], proposals: Sequence[BoxList] | None = None
    ) -> list[BoxList]:
        """Runs the model on one batch.

        Args:
            images: (H, W, 3) uint8 RGB arrays, of any sizes.
            proposals: per image the regions to look at, in its pixels and with field
                ``objectness``; for models with ``MODEL.LOAD_PROPOSALS``.

        Returns:
            Per image a BoxList on the CPU in pixels of that image, by descending score, with
            fields ``scores`` (N,), ``labels`` (N,) and, for a Mask R-CNN, ``mask`` (N, 1, M, M)
            probabilities inside the boxes.
        """
        if not images:
            return []
        batch = to_image_list([self.transform(image) for image in images], self.size_divisible)
        if proposals is not None:
            sizes = [(width, height) for height, width in batch.image_sizes]
            batch.proposals = [p.resize(s) for p, s in zip(proposals, sizes, strict=True)]
        batch.tensors = batch.tensors.to(self.device, memory_format=torch.channels_last)
        with self._autocast():
            outputs = self.model(batch)
        return [
            restore_original_size(output.to("cpu"), (image.shape[1], image.shape[0]), self.dialect)
            for output, image in zip(outputs, images, strict=True)
        ]

    def _autocast(self) -> AbstractContextManager:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def build_detector(
    cfg: Any,
    weights: Weights | None = None,
    *,
    min_image_size: int | None = None,
    allow_proposals: bool = False,
) -> Detector:
    """Builds the model of ``cfg``, loads its weights and makes it ready for inference.

    Args:
        cfg: resolved configuration.
        weights: path, catalog name, URL or state dict; by default ``MODEL.WEIGHT``.
        min_image_size: short side of the network's input instead of ``INPUT.MIN_SIZE_TEST``.
        allow_proposals: also take a model that stops after the proposals.

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
    model = fuse_frozen_norms(model.eval()).to(device, memory_format=torch.channels_last)
    dtype = DTYPES[cfg.DTYPE]
    if device.type == "cpu":
        pack_layers(model, dtype)
    return Detector(
        model,
        transform=build_transform(cfg, min_size=min_image_size),
        dialect=get_dialect(cfg.MODEL.DIALECT),
        size_divisible=cfg.DATALOADER.SIZE_DIVISIBILITY,
        device=device,
        dtype=dtype,
        class_names=_class_names(report, num_classes(cfg)),
        report=report,
        only_proposes=only_proposes(cfg),
    )


def _check_fit(report: LoadReport, dialect: str) -> None:
    """Refuses weights that leave the model half random; warns of other conventions."""
    if report.missing or report.reinitialised:
        raise ValueError(
            "these weights do not fill the model, so that its detections would be random; are they "
            f"those of an ImageNet body, or of another config?\n{report}"
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
