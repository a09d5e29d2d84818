"""Last layers of the box head: class logits and box offsets of each region."""

from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.modeling import registry


class BoxPredictor(nn.Module):
    """Two linear layers: one logit per class and four offsets per regressor.

    Args:
        in_channels: length of a region's feature vector.
        num_classes: classes including background, which is class 0.
        num_regressors: sets of offsets: one per class, or 2 (background, object) for
            class-agnostic regression.
    """

    def __init__(self, in_channels: int, num_classes: int, *, num_regressors: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, num_regressors * 4)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns class logits (K, num_classes) and offsets (K, num_regressors * 4).

        Args:
            x: (K, in_channels) vectors, or (K, in_channels, H, W) maps, which are averaged.
        """
        if x.dim() == 4:
            x = x.mean(dim=(2, 3))
        return self.cls_score(x), self.bbox_pred(x)


# A head that averages maps and one that gets vectors differ in nothing that is learnt, so both of
# maskrcnn-benchmark's names lead here.
@registry.ROI_BOX_PREDICTOR.register("FastRCNNPredictor")
@registry.ROI_BOX_PREDICTOR.register("FPNPredictor")
def build_box_predictor(cfg: CfgNode, in_channels: int) -> BoxPredictor:
    """The predictor that ``MODEL.ROI_BOX_HEAD`` describes."""
    num_classes = cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES
    num_regressors = 2 if cfg.MODEL.CLS_AGNOSTIC_BBOX_REG else num_classes
    return BoxPredictor(in_channels, num_classes, num_regressors=num_regressors)
