"""Checks of tensor arguments that look at metadata only, so that they cost no synchronisation."""

from torch import Tensor


def require_tensor(name: str, value: object) -> None:
    """Raises TypeError unless ``value`` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, but is a {type(value).__name__}")


def require_floating(name: str, tensor: Tensor) -> None:
    """Raises TypeError unless ``tensor`` is a floating-point tensor."""
    require_tensor(name, tensor)
    if not tensor.dtype.is_floating_point:
        raise TypeError(f"{name} must be floating point, but is {tensor.dtype}")


def require_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...], layout: str) -> None:
    """Raises ValueError unless ``tensor`` has the shape; None stands for any length.

    Args:
        layout: the shape in words, such as ``"(N, 4)"``.
    """
    fits = tensor.dim() == len(shape) and all(
        wanted is None or length == wanted
        for length, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must have shape {layout}, but has {tuple(tensor.shape)}")


def require_same_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raises ValueError unless both tensors are on one device."""
    if tensor.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}, {other.device}, "
            f"but is on {tensor.device}"
        )
