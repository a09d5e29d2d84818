"""What is known of one published file of weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One file of weights.

    Attributes:
        name: catalog name, as in ``catalog://NAME``.
        file_name: name of the file on disk, in the cache and in ``MASKRCNN_WEIGHTS_DIR``.
        url: where it is published; "" when it must be brought by hand.
        sha256: SHA-256 in hexadecimal, whole or the first digits, as far as it is published.
        md5_url: where its MD5 is published; "" where it is not.
        size: bytes; None when not known.
        config: the config that builds its model, where that has another name than the weights; ""
            also where there is none (bodies for training, models that this library does not build).
        note: what it is, in a few words.
        published: average precision in percent on COCO's val2017, as its authors state it, of
            "box", "mask" and "keypoint"; of "proposal" the average recall of 1000 proposals.
    """

    name: str
    file_name: str
    url: str = ""
    sha256: str = ""
    md5_url: str = ""
    size: int | None = None
    config: str = ""
    note: str = ""
    published: Mapping[str, float] = field(default_factory=dict)


def figures(*values: float, tasks: tuple[str, ...] = ("box", "mask")) -> dict[str, float]:
    """``published`` of a model from its figures in the order of ``tasks``, of which it may have
    fewer."""
    return dict(zip(tasks, values, strict=False))
