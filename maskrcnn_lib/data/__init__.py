"""From files to what the model eats.

``build`` makes loaders: a ``datasets`` object whose samples a ``transforms`` object changes
(``transformed_dataset``), in the order of ``samplers``, joined by ``collate``. ``converters`` bring
other annotation formats to COCO's, which ``annotations`` validates with ``annotation_masks`` and
``image_entries``. ``image_io`` and ``video_input`` read pixels; ``statistics`` and
``anchor_shapes`` tell what a data set holds.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["make_data_loader"]

if TYPE_CHECKING:
    from maskrcnn_lib.data.build import make_data_loader


def __getattr__(name: str) -> Any:
    if name != "make_data_loader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from maskrcnn_lib.data.build import make_data_loader

    return make_data_loader
