"""Boxes on a page, with nothing imported: the processes that read PDFs use them too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, each 0..1 of the page's width or height."""
Direction = Literal["right", "left", "down", "up"]
"""Where the text in a box runs to. Left is upside down; down is also how Japanese and Chinese columns are read."""


def bound_boxes(boxes: Iterable[Box]) -> Box:
    """Return the box around all of them, of which there is at least one; y may grow downwards or upwards."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def clip_box(box: Iterable[float]) -> Box:
    """Return what of the box is on the page, with five decimals."""
    left, top, right, bottom = (round(min(1.0, max(0.0, float(share))), 5) for share in box)
    return left, top, right, bottom


def turn_box(box: Box, direction: Direction) -> Box:
    """Return where the box would be if its text ran to the right."""
    x0, y0, x1, y1 = box
    turned = {
        "right": box,
        "left": (1 - x1, 1 - y1, 1 - x0, 1 - y0),
        "down": (y0, 1 - x1, y1, 1 - x0),
        "up": (1 - y1, x0, 1 - y0, x1),
    }
    return turned[direction]
