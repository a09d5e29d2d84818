"""ImageNet weights that timm and torchvision publish: where each package says that they lie.

``timm://resnet50d.ra2_in1k`` (without the part behind the dot: timm's first choice) and
``torchvision://convnext_tiny`` (with ``/IMAGENET1K_V1`` or another name: not the default).
"""

from collections.abc import Callable

from maskrcnn_lib.config.model_entries import ModelEntry
from maskrcnn_lib.utils.optional_packages import import_timm

_HUB = "https://huggingface.co"


def find_library_entry(name: str) -> ModelEntry | None:
    """What is known of ``timm://...`` and ``torchvision://...``; None for other names.

    Raises:
        KeyError: the package knows no such weights.
        ModuleNotFoundError: timm is not installed.
    """
    scheme, separator, model = name.partition("://")
    find: dict[str, Callable[[str], ModelEntry]] = {"timm": _timm, "torchvision": _torchvision}
    return find[scheme](model) if separator and scheme in find else None


def _timm(name: str) -> ModelEntry:
    known = import_timm().get_pretrained_cfg(name)
    if known is None or not (known.hf_hub_id or known.url):
        raise KeyError(f"timm knows no weights of {name!r}")
    full_name = f"{known.architecture}.{known.tag}" if known.tag else known.architecture
    if known.hf_hub_id:
        file = known.hf_hub_filename or "model.safetensors"
        url = f"{_HUB}/{known.hf_hub_id}/resolve/main/{file}"
    else:
        url = known.url
    suffix = url.rpartition(".")[2]
    return ModelEntry(name=f"timm://{full_name}", file_name=f"{full_name}.{suffix}", url=url)


def _torchvision(name: str) -> ModelEntry:
    from torchvision.models import get_model_weights

    model, _, member = name.partition("/")
    try:
        weights = get_model_weights(model)
        known = weights[member] if member else weights.DEFAULT
    except (ValueError, KeyError) as error:
        raise KeyError(f"torchvision knows no weights of {name!r}") from error
    file = known.url.rpartition("/")[2]
    # The names of its files end with the first digits of their SHA-256.
    sha256 = file.partition(".")[0].rpartition("-")[2]
    return ModelEntry(name=f"torchvision://{name}", file_name=file, url=known.url, sha256=sha256)
