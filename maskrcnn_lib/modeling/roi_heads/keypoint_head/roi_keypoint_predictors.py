"""Last layers of the keypoint head: one heat map of logits per keypoint."""

from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.backbone.inverted_residual import Block, InvertedResidual
from maskrcnn_lib.modeling.make_layers import NormFactory, init_kaiming_normal
from maskrcnn_lib.modeling.norms import named_norm_factory


class KeypointRCNNPredictor(nn.Module):
    """A transposed convolution that doubles the resolution, then bilinear doubling.

    Args:
        in_channels: channels of a region's map.
        num_keypoints: heat maps.
    """

    def __init__(self, in_channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.kps_score_lowres = nn.ConvTranspose2d(
            in_channels, num_keypoints, kernel_size=4, stride=2, padding=1
        )
        init_kaiming_normal(self.kps_score_lowres)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (K, num_keypoints, 4 * P, 4 * P) logits of x (K, in_channels, P, P)."""
        x = self.kps_score_lowres(x)
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class BlockKeypointPredictor(nn.Module):
    """An inverted residual that doubles the resolution (FBNetV3's keypoint head).

    Args:
        in_channels: channels of a region's map.
        num_keypoints: heat maps.
        norm: makes a trained norm behind each convolution; none by default.
    """

    def __init__(
        self, in_channels: int, num_keypoints: int, *, norm: NormFactory | None = None
    ) -> None:
        super().__init__()
        row = Block(kernel=3, expansion=3, channels=num_keypoints, upsample=True)
        self.kps_score_lowres = InvertedResidual(in_channels, row, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (K, num_keypoints, 2 * P, 2 * P) logits of x (K, in_channels, P, P)."""
        return self.kps_score_lowres(x)


@registry.ROI_KEYPOINT_PREDICTOR.register("KeypointRCNNPredictor")
def build_keypoint_predictor(cfg: CfgNode, in_channels: int) -> KeypointRCNNPredictor:
    """One heat map for each of ``MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES`` keypoints."""
    return KeypointRCNNPredictor(in_channels, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES)


@registry.ROI_KEYPOINT_PREDICTOR.register("FBNetV3.keypoint_predictor")
def build_block_keypoint_predictor(cfg: CfgNode, in_channels: int) -> BlockKeypointPredictor:
    """The same as one block, as D2Go has it."""
    return BlockKeypointPredictor(
        in_channels, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES, norm=named_norm_factory(cfg)
    )
