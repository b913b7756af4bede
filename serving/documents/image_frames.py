"""Decodes image files: finds the frames that are pages, and makes each a canonical picture.

For `parser_process` only: a small file can keep a decoder busy, fill memory or end the process.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import ImageSequence, TiffImagePlugin

from serving.documents.images import check_size, decode_image, make_decode_error, open_image
from serving.errors import TooLargeError

NEW_SUBFILE_TYPE, REDUCED = 254, 1
"""The TIFF tag and bit of a smaller copy of another frame."""


class FileLimits(NamedTuple):
    """The limits of a file whose decoder can be killed: the same for every format."""

    max_file_pixels: int
    max_side: int
    max_page_pixels: int

    @property
    def max_pixels(self) -> int:
        return self.max_file_pixels


def list_frames(path: str, max_pages: int, limits: tuple[int, int, int]) -> tuple[dict[str, Any], bytes]:
    """Return, as JSON, the frames that are pages: all of a TIFF but its thumbnails, the first of an animation.

    Decodes nothing. Raises ServingError.
    """
    with open_image(Path(path)) as image:
        check_size(image, FileLimits(*limits))
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            return {}, b"[0]"
        try:
            # Looked at no further than needed: in a file made for that a frame takes only 12 bytes.
            frames = islice(ImageSequence.Iterator(image), 2 * max_pages + 1)
            reduced = [bool(int(frame.tag_v2.get(NEW_SUBFILE_TYPE, 0)) & REDUCED) for frame in frames]  # type: ignore[attr-defined]
        except Exception as error:
            raise make_decode_error(error) from None
    pages = [number for number, is_reduced in enumerate(reduced) if not is_reduced] or [0]
    if len(pages) > max_pages or len(reduced) > 2 * max_pages:
        raise TooLargeError(f"the file has more than {max_pages} pages, which is the limit: split it")
    return {}, json.dumps(pages).encode()


def decode_frame(path: str, frame: int, limits: tuple[int, int, int]) -> tuple[dict[str, Any], bytes]:
    """Return size and RGB pixels of a frame, without lines of text. Raises ServingError."""
    image = decode_image(Path(path), FileLimits(*limits), frame)
    return {"width": image.width, "height": image.height, "lines": None}, image.tobytes()
