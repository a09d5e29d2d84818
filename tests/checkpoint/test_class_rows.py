"""Fine-tuning on other classes keeps what is known of classes of the same name."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights, save_weights
from maskrcnn_lib.checkpoint.class_rows import rearrange_classes

OLD = ("__background", "person", "cat", "dog")
NEW = ("background", "balloon", "cat", "person", "tree")


class _Heads(nn.Module):
    """The parameters of the last layers under the names that models give them."""

    def __init__(self, classes):
        super().__init__()
        predictor = nn.ModuleDict(
            {"cls_score": nn.Linear(6, classes), "bbox_pred": nn.Linear(6, 4 * classes)}
        )
        mask = nn.ModuleDict({"mask_fcn_logits": nn.Conv2d(5, classes, 1)})
        box = nn.ModuleDict({"feature_extractor": nn.Linear(2, 2), "predictor": predictor})
        self.roi_heads = nn.ModuleDict({"box": box, "mask": nn.ModuleDict({"predictor": mask})})

    def rows(self, label):
        box = self.roi_heads["box"]["predictor"]
        mask = self.roi_heads["mask"]["predictor"]["mask_fcn_logits"]
        regressor = box["bbox_pred"]
        return [
            *(box["cls_score"].weight[label], box["cls_score"].bias[label]),
            *(regressor.weight[4 * label : 4 * label + 4], regressor.bias[4 * label :][:4]),
            *(mask.weight[label], mask.bias[label]),
        ]


def _equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("names", [NEW, NEW[:4]])  # the last has as many classes as the file
def test_rows_of_classes_with_the_same_name_are_kept(tmp_path, names):
    old, new, untouched = _Heads(len(OLD)), _Heads(len(names)), None
    untouched = [[value.clone() for value in new.rows(label)] for label in range(len(names))]
    save_weights(old, tmp_path / "old.pth", class_names=OLD)
    report = load_weights(new, tmp_path / "old.pth", class_names=names)
    for label, name in enumerate(names):
        if label == 0 or name in OLD:
            assert _equal(new.rows(label), old.rows(OLD.index(name) if label else 0)), name
        else:
            assert _equal(new.rows(label), untouched[label]), name
    assert len(report.rearranged) == 6
    assert not report.complete and report.reinitialised == []
    assert report.class_names == names
    assert "rearranged" in str(report)
    extractor = new.roi_heads["box"]["feature_extractor"]
    assert torch.equal(extractor.weight, old.roi_heads["box"]["feature_extractor"].weight)


def test_wholly_other_classes_are_learned_anew(tmp_path):
    save_weights(_Heads(4), tmp_path / "old.pth", class_names=OLD)
    report = load_weights(_Heads(2), tmp_path / "old.pth", class_names=("__background", "balloon"))
    assert len(report.reinitialised) == 6
    assert report.rearranged == []


def test_the_same_classes_change_nothing():
    weights = dict(_Heads(4).state_dict())
    renamed = ("background", *OLD[1:])
    same, chosen = rearrange_classes(weights, _Heads(4).state_dict(), OLD, renamed)
    assert chosen == []
    assert all(same[name] is value for name, value in weights.items())
