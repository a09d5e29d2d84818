"""The one-stage detector: what sees the feature maps finds the objects (RetinaNet, YOLOF)."""

from collections.abc import Sequence

from torch import Tensor, nn

from maskrcnn_lib.modeling.detector.generalized_rcnn import GeneralizedRCNN
from maskrcnn_lib.modeling.losses import mean_losses
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.suppression import Candidates
from maskrcnn_lib.modeling.targets import Seeds, batch_targets
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList


class OneStageDetector(GeneralizedRCNN):
    """Backbone and a dense head, called and answering as a two-stage detector.

    The head stands where the region proposal network does, as in maskrcnn-benchmark, whose
    parameter names begin with ``rpn.head``. Losses are ``loss_retina_cls`` and ``loss_retina_reg``,
    or ``loss_yolof_cls`` and ``loss_yolof_reg``; nothing is drawn by chance.

    Args:
        backbone: maps (N, 3, H, W) to a list of feature maps, finest first.
        head: maps (images, features) to Detections; learns from (images, features, targets).
        size_divisible: height and width of a batch are padded to multiples of this; 0 for none.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, *, size_divisible: int = 0) -> None:
        super().__init__(backbone, head, size_divisible=size_divisible)

    def candidates(self, images: ImageList, features: Sequence[Tensor]) -> Candidates:
        """See ``GeneralizedRCNN.candidates``."""
        return self.rpn.candidates(images, features)

    def suppress(self, candidates: Candidates) -> Detections:
        """See ``GeneralizedRCNN.suppress``."""
        return self.rpn.suppress(candidates)

    def _losses(
        self, images: ImageList, targets: Sequence[BoxList], seeds: Seeds | None
    ) -> dict[str, Tensor]:
        truth = batch_targets(
            targets,
            images.image_sizes,
            device=images.tensors.device,
            num_classes=self.rpn.num_classes,
            with_masks=False,
            seeds=seeds,
        )
        return mean_losses(self.rpn.learn(images, self.backbone(images.tensors), truth))
