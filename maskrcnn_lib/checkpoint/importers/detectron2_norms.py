"""detectron2's convolutions that a norm may follow, as in its models with group norm.

It keeps the norm inside the convolution (``fpn_lateral2.norm.weight``); here it stands behind it.
"""

from collections.abc import Collection
from typing import NamedTuple

from maskrcnn_lib.checkpoint.importers.name_pairs import NamePair


class _Convolutions(NamedTuple):
    """The convolutions of one part.

    Attributes:
        foreign: detectron2's name of one.
        native: ours without norms.
        native_conv: ours with norms.
        native_norm: the norm behind it.
        foreign_sign: one of detectron2's parameters that only models with norms there have.
        native_sign: the same of ours.
    """

    foreign: str
    native: str
    native_conv: str
    native_norm: str
    foreign_sign: str
    native_sign: str

    def pairs(self, *, with_norm: bool) -> list[NamePair]:
        if not with_norm:
            return [NamePair(f"{self.foreign}.{{p}}", f"{self.native}.{{p}}")]
        return [
            NamePair(f"{self.foreign}.{{p}}", f"{self.native_conv}.{{p}}"),
            NamePair(f"{self.foreign}.norm.{{p}}", f"{self.native_norm}.{{p}}"),
        ]


def _nested(foreign: str, native: str, level: int) -> _Convolutions:
    """Convolution and norm are one layer here; the sign is that of its ``level`` there."""
    first = foreign.replace("{i+1}", str(level)).replace("{i}", str(level))
    ours = native.replace("{i}", str(level - 1 if "{i+1}" in foreign else level))
    return _Convolutions(
        foreign, native, f"{native}.0", f"{native}.1", f"{first}.norm.weight", f"{ours}.1.weight"
    )


def _numbered(foreign: str, native: str) -> _Convolutions:
    """Convolutions, norms and ReLUs are numbered here."""
    return _Convolutions(
        f"{foreign}conv{{i}}",
        f"{native}{{2*i-2}}",
        f"{native}{{3*i-3}}",
        f"{native}{{3*i-2}}",
        foreign.replace("{s}", "0") + "conv1.norm.weight",
        native.replace("{s}", "0") + "1.weight",
    )


_PARTS = (
    _nested("backbone.fpn_lateral{i+1}", "backbone.fpn.fpn_inner{i}", 3),
    _nested("backbone.fpn_output{i+1}", "backbone.fpn.fpn_layer{i}", 3),
    _nested("roi_heads.mask_head.mask_fcn{i}", "roi_heads.mask.feature_extractor.mask_fcn{i}", 1),
    _numbered("roi_heads.box_head.", "roi_heads.box.feature_extractor.xconvs."),
    _numbered("roi_heads.box_head.{s}.", "roi_heads.box.stages.{s}.feature_extractor.xconvs."),
)


def import_pairs(names: Collection[str]) -> list[NamePair]:
    """Pairs for a file with these of detectron2's names."""
    return [pair for part in _PARTS for pair in part.pairs(with_norm=part.foreign_sign in names)]


def export_pairs(native_names: Collection[str]) -> list[NamePair]:
    """Pairs for a model with these native names."""
    return [
        pair for part in _PARTS for pair in part.pairs(with_norm=part.native_sign in native_names)
    ]
