"""From files to what the model eats: image reading, data sets, transforms, samplers, batches."""

from typing import TYPE_CHECKING, Any

__all__ = ["make_data_loader"]

if TYPE_CHECKING:
    from maskrcnn_lib.data.build import make_data_loader


def __getattr__(name: str) -> Any:
    if name != "make_data_loader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from maskrcnn_lib.data.build import make_data_loader

    return make_data_loader
