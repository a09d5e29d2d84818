"""ImageNet weights by the names that timm and torchvision give them."""

import pytest

from maskrcnn_lib.checkpoint.download import find_local, resolve_weights
from maskrcnn_lib.checkpoint.library_weights import find_library_entry


def test_torchvisions_weights_are_where_torchvision_says():
    from torchvision.models import ResNet50_Weights

    entry = find_library_entry("torchvision://resnet50")
    assert entry.url == ResNet50_Weights.DEFAULT.url
    assert entry.sha256 == "11ad3fa6"
    first = find_library_entry("torchvision://resnet50/IMAGENET1K_V1")
    assert first.url == ResNet50_Weights.IMAGENET1K_V1.url
    assert first.file_name == "resnet50-0676ba61.pth"


def test_timms_weights_are_on_its_hub():
    pytest.importorskip("timm")
    entry = find_library_entry("timm://resnet50d.ra2_in1k")
    assert (
        entry.url == "https://huggingface.co/timm/resnet50d.ra2_in1k/resolve/main/model.safetensors"
    )
    assert entry.file_name == "resnet50d.ra2_in1k.safetensors"
    # Without a tag timm decides which.
    assert find_library_entry("timm://resnet18").file_name == "resnet18.a1_in1k.safetensors"


@pytest.mark.parametrize("name", ["resnet50", "catalog://ImageNetPretrained/MSRA/R-50", "a/b.pth"])
def test_other_names_are_left_alone(name):
    assert find_library_entry(name) is None


@pytest.mark.parametrize("name", ["torchvision://resnet51", "torchvision://resnet50/V9"])
def test_weights_that_do_not_exist_are_named(name):
    with pytest.raises(FileNotFoundError, match=name.partition("://")[2]):
        resolve_weights(name)


def test_a_file_that_was_brought_by_hand_is_found(tmp_path, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "resnet18.a1_in1k.safetensors").write_bytes(b"weights")
    assert find_local("timm://resnet18") == tmp_path / "resnet18.a1_in1k.safetensors"
