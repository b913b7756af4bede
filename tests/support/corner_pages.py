"""Pages with a patch in one corner."""

from __future__ import annotations

from PIL import Image, ImageDraw

CORNERS = {"upper left": (0, 0), "upper right": (1, 0), "lower left": (0, 1), "lower right": (1, 1)}


def cornered(place: str = "upper left", size: tuple[int, int] = (600, 840)) -> Image.Image:
    """White, with a red patch in a corner that is a part's size."""
    page = Image.new("RGB", size, "white")
    (across, down), width, height = CORNERS[place], size[0] // 4, size[1] // 5
    left, top = across * (size[0] - width), down * (size[1] - height)
    ImageDraw.Draw(page).rectangle((left, top, left + width, top + height), "red")
    return page
