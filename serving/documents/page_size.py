"""Computes how large a page is kept: one rule for pictures and for the pages of PDFs."""

from __future__ import annotations

import math

JPEG_SIDE = 65_500
"""The largest side that libjpeg writes."""


def measure_kept_side(width: float, height: float, max_side: int, max_page_pixels: int) -> int:
    """Return how many pixels the longer side of a page of this size may keep.

    That is `max_side` up to twice as long as wide. Beyond, the shorter side keeps half of `max_side`, so that receipts,
    chats and web pages stay readable, within `max_page_pixels` in all. The same size comes of a picture kept before.
    """
    short, long = sorted((width, height))
    kept = max(1, math.floor(min(short, max_side // 2, math.sqrt(max_page_pixels * short / long))))
    return max(max_side, min(JPEG_SIDE, math.floor(long * kept / short)))
