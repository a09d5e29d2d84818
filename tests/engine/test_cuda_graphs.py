"""CUDA graphs give what the same passes give without them."""

import copy
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine.cuda_graphs import GraphedDetection, Recordings
from maskrcnn_lib.engine.fast_model import make_fast
from maskrcnn_lib.engine.step import TrainingStep
from maskrcnn_lib.engine.training_graphs import GraphedBackbone, graph_backbone
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.solver import make_lr_scheduler, make_optimizer
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

CONFIG = "e2e_mask_rcnn_R_50_FPN_1x"


def make_model():
    torch.manual_seed(0)
    cfg = get_cfg(CONFIG, ["MODEL.WEIGHT", "", "MODEL.ROI_HEADS.SCORE_THRESH", 0.005])
    return cfg, build_detection_model(cfg)


def make_images(seed, size=(160, 192), used=(150, 192), device="cuda"):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(2, 3, *size, generator=generator).to(memory_format=torch.channels_last)
    return ImageList(pixels.to(device), [size, used])


def make_target(size):
    height, width = size
    boxes = torch.tensor([[10.0, 20, 90, 110], [60, 40, 150, 140]])
    target = BoxList(boxes, (width, height))
    target.add_field("labels", torch.tensor([1, 2]))
    outlines = [[[x1, y1, x2, y1, x2, y2]] for x1, y1, x2, y2 in boxes.tolist()]
    target.add_field("masks", SegmentationMask(outlines, (width, height)))
    return target


def test_on_the_cpu_everything_stays_as_it_was():
    calls = []
    detect = GraphedDetection(lambda images: calls.append(images) or "detections")
    images = make_images(0, device="cpu")
    with torch.inference_mode():
        assert [detect(images) for _ in range(5)] == ["detections"] * 5
    assert calls == [images] * 5
    backbone = torch.nn.Conv2d(3, 4, 3)
    graph_backbone(backbone)
    expected = torch.nn.Conv2d.forward(backbone, images.tensors)
    assert torch.equal(backbone(images.tensors), expected)


def test_sizes_that_come_again_are_recorded_up_to_a_number():
    recordings, numbers = Recordings(2), count(1)

    def ask(key, times):
        return [recordings.find_or_record((key,), lambda: next(numbers)) for _ in range(times)]

    assert ask("first", 4) == [None, None, 1, 1]
    assert ask("second", 3) == [None, None, 2]
    assert ask("one too many", 5) == [None] * 5
    assert ask("first", 1) == [1]


def test_what_cannot_be_recorded_goes_on_without_and_says_so(monkeypatch, caplog):
    def refuse(self, images):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(GraphedDetection, "_record", refuse)
    on_gpu = SimpleNamespace(
        is_cuda=True, shape=(1, 3, 8, 8), stride=tuple, dtype=torch.float32, device="cuda"
    )
    detect = GraphedDetection(lambda images: "detections")
    with torch.inference_mode():
        images = SimpleNamespace(tensors=on_gpu, proposals=None)
        assert [detect(images) for _ in range(5)] == ["detections"] * 5
    assert caplog.text.count("goes on without CUDA graphs") == 1


def test_a_copy_has_a_backbone_of_its_own():
    backbone = torch.nn.Conv2d(3, 4, 3)
    graph_backbone(backbone)
    copied = copy.deepcopy(backbone)
    with torch.no_grad():
        copied.weight.zero_()
        copied.bias.zero_()
    assert isinstance(copied.forward, GraphedBackbone)
    assert not copied(torch.ones(1, 3, 5, 5)).any()
    assert backbone(torch.ones(1, 3, 5, 5)).any()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_detections_are_those_without_graphs(dtype):
    _, model = make_model()
    model = make_fast(model, torch.device("cuda"), dtype)
    plain = type(model).detect
    with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        for round_ in range(6):  # the third pass of a size records it
            for size in ((160, 192), (192, 160)):
                used = (size[0] - 7 * round_, size[1])
                images = make_images(round_, size=size, used=used)
                results, expected = model.detect(images), plain(model, images)
                assert expected.valid.any()
                for ours, other in zip(results, expected, strict=True):
                    assert (ours is None) == (other is None)
                    if ours is not None:
                        torch.testing.assert_close(ours, other, rtol=0, atol=0)
    assert len(model.detect._recorded) == 2


class Summed(torch.nn.Module):
    """A loss that looks at all maps of a backbone, with the same weights in each pass."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        total = 0.0
        for number, values in enumerate(self.backbone(x)):
            generator = torch.Generator().manual_seed(number)
            weights = torch.randn(values.shape, generator=generator).to(values.device)
            total = total + (values.float() * weights).sum()
        return total


def gradients_of(backbone, dtype, *, wrapped):
    """Gradients of the fourth pass over images, and again after weights were changed in place."""
    model = Summed(backbone)
    if wrapped:
        model = DistributedDataParallel(model, device_ids=[0])
    results = []
    for seed in range(2):
        images = make_images(seed).tensors
        for _ in range(4):
            backbone.zero_grad(set_to_none=True)
            with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
                loss = model(images)
            loss.backward()
        named = backbone.named_parameters()
        results.append({n: v.grad.clone() for n, v in named if v.grad is not None})
        with torch.no_grad():
            for value in backbone.parameters():
                value.mul_(1.1)
    return results


@pytest.fixture
def one_rank(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def check_gradients(dtype, *, wrapped):
    results = []
    for graphed in (False, True):
        backbone = make_model()[1].backbone.to("cuda", memory_format=torch.channels_last).train()
        if graphed:
            graph_backbone(backbone)
        results.append(gradients_of(backbone, dtype, wrapped=wrapped))
    assert len(backbone.forward._recorded) == 1
    for plain, ours in zip(*results, strict=True):
        assert plain.keys() == ours.keys()
        for name, expected in plain.items():
            # float32 is TF32 on tensor cores, whose sums come in the order of the chosen kernel.
            tolerance = (2e-3 if dtype == torch.float32 else 2e-2) * expected.norm()
            assert expected.norm() > 0
            assert (ours[name] - expected).norm() <= tolerance, name


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_without_graphs_also_after_an_update(dtype):
    check_gradients(dtype, wrapped=False)


@pytest.mark.gpu
def test_ranks_exchange_the_gradients_of_graphs(one_rank):
    check_gradients(torch.bfloat16, wrapped=True)


@pytest.mark.gpu
def test_training_goes_on_with_graphs():
    cfg, model = make_model()
    model.to("cuda", memory_format=torch.channels_last).train()
    graph_backbone(model.backbone)
    optimizer = make_optimizer(cfg, model)
    scheduler = make_lr_scheduler(cfg, optimizer)
    step = TrainingStep(
        model, optimizer, scheduler, device=torch.device("cuda"), dtype=torch.bfloat16
    )
    images = make_images(0)
    targets = [make_target(size) for size in images.image_sizes]
    for _ in range(6):
        outcome = step.gradients((images, targets, [0, 1], torch.tensor([3, 4])))
        step.update()
        assert outcome.values.isfinite().all()
    assert len(model.backbone.forward._recorded) == 1


@pytest.mark.gpu
def test_a_changed_constant_is_noticed():
    _, model = make_model()
    backbone = model.backbone.to("cuda", memory_format=torch.channels_last).train()
    graph_backbone(backbone)
    images = make_images(0).tensors
    for _ in range(4):
        before = backbone(images)[0].detach().clone()
    with torch.no_grad():
        next(buffer for name, buffer in backbone.named_buffers() if "bn1.bias" in name).add_(1.0)
    after = backbone(images)[0]
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, type(backbone).forward(backbone, images)[0])
