"""Mean and standard deviation of the pixels, where a config leaves them to the body.

A body of timm or torchvision has seen its ImageNet pictures normalised in its own way, which these
packages know: ``INPUT.PIXEL_MEAN: []`` takes it.
"""

from collections.abc import Sequence

from maskrcnn_lib.config.architecture import library_body
from maskrcnn_lib.config.node import CfgNode
from maskrcnn_lib.utils.optional_packages import import_timm


def pixel_statistics(cfg: CfgNode) -> tuple[list[float], list[float]]:
    """``INPUT.PIXEL_MEAN`` and ``INPUT.PIXEL_STD``, or those of the body where these are empty.

    Returns:
        Mean and standard deviation of each channel, in the order and the scale that
        ``INPUT.TO_BGR255`` says.

    Raises:
        ModuleNotFoundError: the body is of timm, which is not installed.
        ValueError: the package knows none for this body.
    """
    keys = cfg.INPUT
    if keys.PIXEL_MEAN or keys.PIXEL_STD:
        return list(keys.PIXEL_MEAN), list(keys.PIXEL_STD)
    library, name, _ = library_body(cfg)
    known = _of_timm(name) if library == "timm" else _of_torchvision(name)
    if known is None:
        raise ValueError(
            f"{library} knows no ImageNet weights of {name!r}: say INPUT.PIXEL_MEAN and PIXEL_STD"
        )
    mean, std = (list(values) for values in known)
    if keys.TO_BGR255:
        return [255 * value for value in mean[::-1]], [255 * value for value in std[::-1]]
    return mean, std


def _of_timm(name: str) -> tuple[Sequence[float], Sequence[float]] | None:
    known = import_timm().get_pretrained_cfg(name)
    return None if known is None else (known.mean, known.std)


def _of_torchvision(name: str) -> tuple[Sequence[float], Sequence[float]] | None:
    from torchvision.models import get_model_weights, list_models

    if name not in list_models():
        return None
    preset = get_model_weights(name).DEFAULT.transforms()
    return preset.mean, preset.std
