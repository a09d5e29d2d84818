"""Focal loss against the formula in float64, torchvision's, and its own reference."""

import importlib
import math

import pytest
import torch

from maskrcnn_lib.layers import SigmoidFocalLoss, sigmoid_focal_loss
from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.layers.sigmoid_focal_loss import sigmoid_focal_loss_reference

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
RULES = [(2.0, 0.25), (0.0, 0.5), (1.5, 0.75), (3.0, 1.0)]
# Rows of one, of less than a vector, of whole vectors, and of vectors and a rest.
CLASSES = [1, 7, 80, 91]


def problem(rows, classes, dtype=torch.float64, *, spread=4.0):
    """Logits, and labels with ignored rows, background and all classes."""
    generator = torch.Generator().manual_seed(rows * 100 + classes)
    logits = spread * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, classes + 1, (rows,), generator=generator)
    return logits.to(dtype), labels


def torchvision_loss(logits, labels, gamma, alpha):
    peer = pytest.importorskip("torchvision.ops").sigmoid_focal_loss
    right = (torch.arange(1, logits.shape[1] + 1) == labels[:, None]).to(logits)
    losses = peer(logits, right, alpha=alpha, gamma=gamma)
    return torch.where(labels[:, None] >= 0, losses, 0.0).sum(dim=1)


def loss_and_gradient(function, logits, *arguments, weights=None, **rule):
    leaf = logits.clone().requires_grad_()
    losses = function(leaf, *arguments, **rule)
    weights = torch.linspace(-1, 2, len(losses)).to(losses) if weights is None else weights
    (losses * weights).sum().backward()
    return losses.detach(), leaf.grad


def test_value_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)], [5.0, 5.0]])
    # p = 1/2 and 3/4. Background: 3/4 (1/4 ln 2 + 9/16 ln 4); class 2: 3/16 ln 2 + 1/4 1/16 ln 4/3
    background = 0.75 * (0.25 * math.log(2) + 9 / 16 * math.log(4))
    second = 0.75 * 0.25 * math.log(2) + 0.25 / 16 * math.log(4 / 3)
    losses = sigmoid_focal_loss(logits, torch.tensor([0, 2, -1]))
    torch.testing.assert_close(losses, torch.tensor([background, second, 0.0]))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize(("gamma", "alpha"), RULES)
def test_losses_and_gradients_are_torchvisions(gamma, alpha, classes):
    logits, labels = problem(50, classes)
    ours = loss_and_gradient(sigmoid_focal_loss, logits, labels, gamma=gamma, alpha=alpha)
    theirs = loss_and_gradient(torchvision_loss, logits, labels, gamma, alpha)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize(("gamma", "alpha"), RULES)
def test_narrow_types_compute_in_float32(dtype, classes, gamma, alpha):
    logits, labels = problem(50, classes, dtype)
    rule = {"gamma": gamma, "alpha": alpha}
    losses, gradient = loss_and_gradient(sigmoid_focal_loss, logits, labels, **rule)
    expected = loss_and_gradient(sigmoid_focal_loss_reference, logits.double(), labels, **rule)
    assert losses.dtype == torch.float32 and gradient.dtype == dtype
    # A logit's loss is right to some 30 roundings of float32, for gamma = 3 mostly the power's.
    torch.testing.assert_close(losses.double(), expected[0], rtol=4e-6, atol=1e-9)
    rounding = torch.finfo(dtype)
    torch.testing.assert_close(
        gradient.double(),
        expected[1],
        rtol=max(rounding.eps, 4e-6),
        atol=rounding.smallest_normal if dtype == torch.float16 else 1e-9,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_extreme_logits_give_finite_losses_and_tiny_ones_stay_exact(dtype):
    logits = torch.tensor([[1e4], [-1e4], [88.0], [-30.0], [-60.0], [1e4]], dtype=dtype)
    labels = torch.tensor([0, 0, 1, 1, 0, 1])
    losses, gradient = loss_and_gradient(
        sigmoid_focal_loss, logits, labels, gamma=0.0, alpha=0.5, weights=torch.ones(6).to(dtype)
    )
    values = [5000.0, 0.0, 0.0, 15.0, 0.5 * math.exp(-60), 0.0]
    slopes = [0.5, 0.0, 0.0, -0.5, 0.5 * math.exp(-60), 0.0]
    exact = max(torch.finfo(dtype).eps, 2e-6)
    torch.testing.assert_close(
        losses.double(), torch.tensor(values).double(), rtol=exact, atol=1e-36
    )
    torch.testing.assert_close(
        gradient[:, 0].double(), torch.tensor(slopes).double(), rtol=exact, atol=1e-36
    )


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_ops), False])
def test_not_a_number_is_not_hidden(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    logits = torch.zeros(3, 20)
    logits[0, 3] = logits[1, 19] = torch.nan
    assert sigmoid_focal_loss(logits, torch.tensor([0, 20, 1])).isnan().tolist() == [1, 1, 0]


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_ops), False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("classes", [1, 20])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0])
def test_infinite_logits_are_all_right_or_all_wrong(compiled, dtype, classes, gamma, monkeypatch):
    """The loss of what is wrong is infinite, its slope that of cross entropy; all else is 0."""
    if not compiled:
        without_ops(monkeypatch)
    logits = torch.full((4, classes), -torch.inf, dtype=dtype)
    logits[:, 0] = torch.tensor([torch.inf, -torch.inf, torch.inf, -torch.inf])
    labels = torch.tensor([0, 0, 1, 1])
    losses, gradient = loss_and_gradient(
        sigmoid_focal_loss, logits, labels, gamma=gamma, alpha=0.25, weights=torch.ones(4).to(dtype)
    )
    # The kernel's exponential ends at exp(-87).
    expected = torch.tensor([torch.inf, 0, 0, torch.inf]).to(losses)
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-36)
    slopes = torch.zeros_like(gradient)
    slopes[:, 0] = torch.tensor([0.75, 0, 0, -0.25])
    torch.testing.assert_close(gradient, slopes, rtol=0, atol=1e-36)


def without_ops(monkeypatch):
    module = importlib.import_module("maskrcnn_lib.layers.sigmoid_focal_loss")
    monkeypatch.setattr(module, "_compiled", lambda logits: False)


@needs_ops
@pytest.mark.parametrize("classes", CLASSES)
def test_operator_equals_the_reference(classes, monkeypatch):
    logits, labels = problem(64, classes)
    ours = loss_and_gradient(sigmoid_focal_loss, logits, labels, gamma=1.7, alpha=0.3)
    without_ops(monkeypatch)
    reference = loss_and_gradient(sigmoid_focal_loss, logits, labels, gamma=1.7, alpha=0.3)
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-13)


@needs_ops
def test_gradient_is_the_derivative():
    logits, labels = problem(6, 5, spread=2.0)
    logits.requires_grad_()
    for gamma, alpha in RULES:
        torch.autograd.gradcheck(
            lambda x, g=gamma, a=alpha: sigmoid_focal_loss(x, labels, gamma=g, alpha=a), (logits,)
        )


@needs_ops
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_operators_keep_their_promises(dtype):
    logits, labels = problem(9, 21, dtype)
    forward = torch.ops.maskrcnn.sigmoid_focal_loss.default
    backward = torch.ops.maskrcnn.sigmoid_focal_loss_backward.default
    torch.library.opcheck(forward, (logits.requires_grad_(), labels, 2.0, 0.25))
    grad = torch.ones(9, dtype=torch.promote_types(dtype, torch.float32))
    torch.library.opcheck(backward, (grad, logits.detach(), labels, 2.0, 0.25))


def test_layout_of_the_memory_does_not_matter():
    logits, labels = problem(40, 33, torch.float32)
    spread = logits.t().contiguous().t()
    padded = torch.empty(40, 2, 33)
    padded[:, 1] = logits
    expected = sigmoid_focal_loss(logits, labels)
    assert torch.equal(sigmoid_focal_loss(spread, labels), expected)
    assert torch.equal(sigmoid_focal_loss(padded[:, 1], labels.int()), expected)


@pytest.mark.parametrize("shape", [(0, 80), (5, 0), (0, 0)])
def test_nothing_costs_nothing(shape):
    logits = torch.zeros(shape, requires_grad=True)
    losses = sigmoid_focal_loss(logits, torch.zeros(shape[0], dtype=torch.int64))
    assert losses.tolist() == [0.0] * shape[0]
    losses.sum().backward()
    assert logits.grad.shape == shape


def test_threads_do_not_change_a_bit():
    logits, labels = problem(3000, 80, torch.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = loss_and_gradient(sigmoid_focal_loss, logits, labels)
        torch.set_num_threads(3)
        shared = loss_and_gradient(sigmoid_focal_loss, logits, labels)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone[0], shared[0]) and torch.equal(alone[1], shared[1])


def test_layer_of_maskrcnn_benchmark_sums_up():
    logits, labels = problem(30, 4, torch.float32)
    layer = SigmoidFocalLoss(2.0, 0.25)
    torch.testing.assert_close(
        layer(logits, labels.int()), sigmoid_focal_loss(logits, labels).sum()
    )


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_ops), False])
def test_unusable_arguments_are_named(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    logits, labels = problem(3, 4, torch.float32)
    with pytest.raises(ValueError, match=r"at most 4.*label 1 is 5"):
        sigmoid_focal_loss(logits, torch.tensor([4, 5, 0]))
    with pytest.raises(ValueError, match="labels must have shape"):
        sigmoid_focal_loss(logits, labels[:2])
    with pytest.raises(ValueError, match="alpha"):
        sigmoid_focal_loss(logits, labels, alpha=1.5)
    with pytest.raises(TypeError, match="integers"):
        sigmoid_focal_loss(logits, labels.float())
