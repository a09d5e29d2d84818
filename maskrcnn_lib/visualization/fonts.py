"""A font that has the letters of the labels: Pillow's own knows English only."""

import logging
import string
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

logger = logging.getLogger(__name__)

# Looked for where the system keeps its fonts, those with few letters first.
_FILES = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf", "Arial Unicode.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "msyh.ttc", "PingFang.ttc", "malgun.ttf"),
)
_NO_LETTER = "\uffff"


def label_font(texts: Iterable[str], size: int) -> "FreeTypeFont | ImageFont":
    """A font for labels; letters that no font at hand has are warned about once."""
    from PIL import ImageFont

    letters = frozenset("".join(texts)) - frozenset(string.printable)
    file = _font_file(letters) if letters else None
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


@lru_cache(maxsize=256)
def _font_file(letters: frozenset[str]) -> str | None:
    from PIL import ImageFont

    for name in (*_FILES, *_of_matplotlib()):
        try:
            font = ImageFont.truetype(name, 20)
        except OSError:
            continue
        if all(_has(font, letter) for letter in letters):
            return font.path
    text = "no font at hand has all of %s, which labels cannot show: install a Noto or DejaVu font"
    logger.warning(text, " ".join(sorted(letters)))
    return None


def _of_matplotlib() -> list[str]:
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return []
    return [str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")]


def _has(font: "FreeTypeFont", letter: str) -> bool:
    drawn, blank = font.getmask(letter), font.getmask(_NO_LETTER)
    return letter.isspace() or (drawn.size, bytes(drawn)) != (blank.size, bytes(blank))
