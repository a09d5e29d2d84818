"""What cannot be exported, said before the work begins."""

from collections.abc import Iterator

import torch

from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.test_time_augmentation import AugmentedDetector
from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.modeling.given_proposals import GivenProposals
from maskrcnn_lib.modeling.roi_heads.box_head.rfcn import RFCNFeatureExtractor
from maskrcnn_lib.modeling.suppression import Suppression


def check_exportable(detector: Detector) -> None:
    """Refuses a detector that no file can stand for.

    Raises:
        ValueError: naming each reason and, where there is one, the key that helps.
        ImportError: the compiled operators, whose names stand in the graph, are not there.
    """
    if not ops_available():
        raise ImportError(
            "export needs the compiled operators of maskrcnn_lib; `maskrcnn checks` says what is "
            "missing"
        )
    reasons = [*_of_use(detector), *_of_parts(detector)]
    if reasons:
        raise ValueError("this model cannot be exported: " + "; ".join(reasons))


def _of_use(detector: Detector) -> Iterator[str]:
    """What speaks against the way in which the model is used."""
    if detector.only_proposes:
        yield "MODEL.RPN_ONLY: it stops after the proposals, and a file gives detections"
    if isinstance(detector, AugmentedDetector):
        yield "a file looks at an image once: set TEST.BBOX_AUG.ENABLED False"
    if detector.dtype != torch.float32 or detector.device.type != "cpu":
        yield (
            "files are made on the CPU and compute in float32, but this detector is on "
            f"{detector.device} in {detector.dtype}: set MODEL.DEVICE cpu DTYPE float32"
        )


def _of_parts(detector: Detector) -> Iterator[str]:
    """What speaks against the parts that the model is made of."""
    parts = list(detector.model.modules())
    if any(isinstance(part, GivenProposals) for part in parts):
        yield (
            "MODEL.LOAD_PROPOSALS: Fast R-CNN looks at regions that come with the images, for "
            "which a file has no input"
        )
    if any(isinstance(part, RFCNFeatureExtractor) for part in parts):
        yield "R-FCN: nothing stands for its position-sensitive pooling"
    suppressions = [getattr(part, "suppress", None) for part in parts]
    suppressions = [found for found in suppressions if isinstance(found, Suppression)]
    if any(found.soft_nms is not None for found in suppressions):
        yield "Soft-NMS has no counterpart outside of maskrcnn_lib: set TEST.SOFT_NMS.ENABLED False"
    if any(found.voting is not None for found in suppressions):
        yield "files know no votes on boxes: set TEST.BBOX_VOTE.ENABLED False"
