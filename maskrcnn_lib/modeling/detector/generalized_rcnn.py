"""The two-stage detector: Faster R-CNN, and Mask R-CNN (arXiv:1703.06870) with a mask head."""

from collections.abc import Sequence

from torch import Tensor, nn

from maskrcnn_lib.modeling.outputs import Detections, Proposals
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList, to_image_list


class GeneralizedRCNN(nn.Module):
    """Backbone, region proposals, and heads that work on the regions.

    Args:
        backbone: maps (N, 3, H, W) to a list of feature maps, finest first.
        rpn: maps (images, features) to Proposals.
        roi_heads: maps (features, proposals, image_sizes) to Detections; None for a model that
            stops after the proposals.
        size_divisible: height and width of a batch are padded to multiples of this; 0 for none.
    """

    def __init__(
        self,
        backbone: nn.Module,
        rpn: nn.Module,
        roi_heads: nn.Module | None = None,
        *,
        size_divisible: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.size_divisible = size_divisible

    def forward(self, images: ImageList | Sequence[Tensor] | Tensor) -> list[BoxList]:
        """Finds the objects in each image.

        Args:
            images: an ImageList, a list of (3, H, W) tensors, or a batch (N, 3, H, W); resized and
                normalised already.

        Returns:
            One BoxList per image, in pixels of the resized image and sorted by score, highest
            first; with fields ``scores`` (n,), ``labels`` (n,) int64 from 1, and with a mask head
            ``mask`` (n, 1, M, M) probabilities inside the box. A model without heads returns its
            proposals, with field ``objectness`` (n,).

        Raises:
            RuntimeError: the model is in training mode.
        """
        if self.training:
            raise RuntimeError(
                "the model is in training mode, but only inference is available in this version; "
                "call model.eval() first"
            )
        images = to_image_list(images, self.size_divisible)
        return to_boxlists(self.detect(images), images.image_sizes)

    def detect(self, images: ImageList) -> Detections | Proposals:
        """The same as ``forward`` on a padded batch, but leaves the result batched on its device.

        Nothing in here waits for a GPU.
        """
        features = self.backbone(images.tensors)
        proposals = self.rpn(images, features)
        if self.roi_heads is None:
            return proposals
        return self.roi_heads(features, proposals, images.image_sizes)


def to_boxlists(
    results: Detections | Proposals, image_sizes: Sequence[tuple[int, int]]
) -> list[BoxList]:
    """Splits a batched result into one BoxList per image, without the unused slots.

    Args:
        results: the output of ``GeneralizedRCNN.detect``.
        image_sizes: per image, height and width without padding, in pixels.
    """
    boxlists = []
    for i, (used, (height, width)) in enumerate(
        zip(results.valid.sum(dim=1).tolist(), image_sizes, strict=True)
    ):
        boxlist = BoxList(results.boxes[i, :used], (width, height), mode="xyxy")
        if isinstance(results, Proposals):
            boxlist.add_field("objectness", results.scores[i, :used])
        else:
            boxlist.add_field("scores", results.scores[i, :used])
            boxlist.add_field("labels", results.labels[i, :used])
            if results.masks is not None:
                boxlist.add_field("mask", results.masks[i, :used, None])
        boxlists.append(boxlist)
    return boxlists
