"""What torchvision's second two-stage models call differently: more layers, and norms behind them.

``fasterrcnn_resnet50_fpn_v2`` and ``maskrcnn_resnet50_fpn_v2``.
"""

from collections.abc import Collection

from maskrcnn_lib.checkpoint.importers.name_pairs import NamePair

_NORM = "roi_heads.box_head.0.1.running_mean"
_NATIVE_NORM = "roi_heads.box.feature_extractor.xconvs.1.running_mean"
_BOX, _MASK = "roi_heads.box.feature_extractor.", "roi_heads.mask.feature_extractor."

_PAIRS = [
    NamePair("backbone.fpn.inner_blocks.{i}.{c}.{p}", "backbone.fpn.fpn_inner{i+1}.{c}.{p}"),
    NamePair("backbone.fpn.layer_blocks.{i}.{c}.{p}", "backbone.fpn.fpn_layer{i+1}.{c}.{p}"),
    # Ours count the ReLUs as well, torchvision's nests convolution and norm instead.
    NamePair("rpn.head.conv.{i}.0.{p}", "rpn.head.rpn_feature.{2*i}.{p}"),
    NamePair("roi_heads.box_head.{i}.0.{p}", f"{_BOX}xconvs.{{3*i}}.{{p}}"),
    NamePair("roi_heads.box_head.{i}.1.{p}", f"{_BOX}xconvs.{{3*i+1}}.{{p}}"),
    # behind four convolutions and what makes their maps flat
    NamePair("roi_heads.box_head.5.{p}", f"{_BOX}fc6.{{p}}"),
    NamePair("roi_heads.mask_head.{i}.{c}.{p}", f"{_MASK}mask_fcn{{i+1}}.{{c}}.{{p}}"),
]


def import_pairs(names: Collection[str]) -> list[NamePair]:
    """Pairs that go before those of the first models; none where it is one of these."""
    return _PAIRS if _NORM in names else []


def export_pairs(native_names: Collection[str]) -> list[NamePair]:
    """The same for native names."""
    return _PAIRS if _NATIVE_NORM in native_names else []
