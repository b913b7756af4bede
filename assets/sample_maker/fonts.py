"""The typefaces of the sample pages and where Debian keeps them."""

from functools import cache
from pathlib import Path

from PIL import ImageFont

_ROOT = Path("/usr/share/fonts")
_CORE = "truetype/noto/Noto"
_CJK = "opentype/noto/Noto"
_DEJAVU = "truetype/dejavu/DejaVu"

# face: (file under /usr/share/fonts, index inside a collection)
_FACES: dict[str, tuple[str, int]] = {
    "sans": (f"{_CORE}Sans-Regular.ttf", 0),
    "sans-bold": (f"{_CORE}Sans-Bold.ttf", 0),
    "sans-italic": (f"{_CORE}Sans-Italic.ttf", 0),
    "serif": (f"{_CORE}Serif-Regular.ttf", 0),
    "serif-bold": (f"{_CORE}Serif-Bold.ttf", 0),
    "serif-italic": (f"{_CORE}Serif-Italic.ttf", 0),
    "title": (f"{_CORE}SerifDisplay-Regular.ttf", 0),
    "title-bold": (f"{_CORE}SerifDisplay-Bold.ttf", 0),
    "title-italic": (f"{_CORE}SerifDisplay-Italic.ttf", 0),
    "hindi": (f"{_CORE}SansDevanagari-Regular.ttf", 0),
    "hindi-bold": (f"{_CORE}SansDevanagari-Bold.ttf", 0),
    "narrow": (f"{_DEJAVU}SansCondensed.ttf", 0),
    "narrow-bold": (f"{_DEJAVU}SansCondensed-Bold.ttf", 0),
    "light": (f"{_DEJAVU}Sans-ExtraLight.ttf", 0),
    "slab": (f"{_DEJAVU}SerifCondensed.ttf", 0),
    "slab-bold": (f"{_DEJAVU}SerifCondensed-Bold.ttf", 0),
    "mono": (f"{_DEJAVU}SansMono.ttf", 0),
    "mono-bold": (f"{_DEJAVU}SansMono-Bold.ttf", 0),
    "ja": (f"{_CJK}SansCJK-Regular.ttc", 0),
    "ja-bold": (f"{_CJK}SansCJK-Bold.ttc", 0),
    "zh": (f"{_CJK}SansCJK-Regular.ttc", 2),
    "zh-bold": (f"{_CJK}SansCJK-Bold.ttc", 2),
    "zh-serif": (f"{_CJK}SerifCJK-Regular.ttc", 2),
    "zh-serif-bold": (f"{_CJK}SerifCJK-Bold.ttc", 2),
}


class MissingFontError(RuntimeError):
    """A typeface is not installed."""


def _package(file: str) -> str:
    if file.startswith(_CORE):
        return "fonts-noto-core"
    if file.startswith(_CJK):
        return "fonts-noto-cjk"
    if file.startswith((f"{_DEJAVU}SansMono", f"{_DEJAVU}Sans.ttf")):
        return "fonts-dejavu-core"
    return "fonts-dejavu-extra"


def font_path(face: str) -> Path:
    """The file of a face, or an error that names the Debian package to install."""
    file, _ = _FACES[face]
    path = _ROOT / file
    if not path.is_file():
        raise MissingFontError(f"font {path} is missing: apt-get install {_package(file)}")
    return path


def check_fonts() -> None:
    """Fail before any drawing when one of the faces is missing."""
    for face in _FACES:
        font_path(face)


@cache
def load_font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A face at a size in pixels."""
    return ImageFont.truetype(str(font_path(face)), size, index=_FACES[face][1])
