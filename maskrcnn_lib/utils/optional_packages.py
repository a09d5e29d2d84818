"""Packages that only some models need, with what to do where one is missing."""

from types import ModuleType


def import_timm() -> ModuleType:
    """The package timm; raises ModuleNotFoundError that says how to install it."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "bodies and weights of timm need that package: pip install maskrcnn_lib[timm]"
        ) from error
    return timm
