"""Decodes image bytes to bounded RGB pages: the only module that makes an image canonical.

Canonical means: EXIF orientation applied, transparency on white, 16-bit scaled to 8, RGB, at most `max_side` pixels.
All embedders and the pictures on the page start from this, so that servers agree and a hit looks like its file.
"""

from __future__ import annotations

import io
import warnings
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, TiffImagePlugin, UnidentifiedImageError

from serving.errors import GONE, NotAnImageError, ServingError, TooLargeError, UnreadableError
from serving.settings import Settings

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000")
"""An allow-list: Pillow also opens EPS (runs Ghostscript), FITS and PSD (decompression bombs)."""
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of HEIF files, at byte 8; AVIF has brands of its own, which Pillow asks for first."""
THUMBNAIL = 480
JPEG_QUALITY = 92
"""The OCR reads the same words as from PNG; a page of text takes about 0.3 MB and 15 ms."""

NEW_SUBFILE_TYPE, REDUCED = 254, 1
"""The TIFF tag and bit of a smaller copy of another frame."""
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
DEPTHS = (255, 1_023, 4_095, 16_383, 65_535)
"""Largest values of 8 to 16 bits: scanners and X-ray devices write 10 or 12 bits into 16."""
BLOCK = 16
"""Pixels; words are thinner."""
CONTRAST = 64
"""Of 255: less between ink and background is hard to read."""

Image.MAX_IMAGE_PIXELS = PILLOW_PIXELS = 200_000_000
"""Of any image, before its format is known; `max_pixels` and `max_photo_pixels` are checked then."""
warnings.simplefilter("error", Image.DecompressionBombWarning)


def list_frames(source: Path, settings: Settings) -> list[int]:
    """Return the frames of an image file that are pages: all of a TIFF but its thumbnails, the first of an animation.

    Decodes nothing. Raises ServingError.
    """
    with open_image(source) as image:
        check_size(image, settings)
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            return [0]
        try:
            # Looked at no further than needed: in a file made for that a frame takes only 12 bytes.
            frames = islice(ImageSequence.Iterator(image), 2 * settings.max_pdf_pages + 1)
            reduced = [bool(int(frame.tag_v2.get(NEW_SUBFILE_TYPE, 0)) & REDUCED) for frame in frames]  # type: ignore[attr-defined]
        except Exception as error:
            raise make_decode_error(error) from None
    pages = [number for number, is_reduced in enumerate(reduced) if not is_reduced] or [0]
    if len(pages) > settings.max_pdf_pages or len(reduced) > 2 * settings.max_pdf_pages:
        raise TooLargeError(f"the file has more than {settings.max_pdf_pages} pages, which is the limit: split it")
    return pages


def check_size(image: Image.Image, settings: Settings) -> None:
    """Raise TooLargeError for an image that would take too much memory, or time, to decode."""
    is_photo = image.format == "JPEG" and not image.info.get("progressive")
    if image.width * image.height > (limit := settings.max_photo_pixels if is_photo else settings.max_pixels):
        size = f"{image.width} x {image.height}"
        raise TooLargeError(f"the image has {size} pixels; the limit is {limit // 1_000_000} megapixels")


def open_image(source: bytes | Path) -> Image.Image:
    """Open an image and read only its header. Raises NotAnImageError, TooLargeError or UnreadableError."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            head = stream.read(2048)
    except OSError:
        raise UnreadableError(GONE) from None
    formats = [*FORMATS, "HEIF"] if is_heic(head) else FORMATS
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
    except UnidentifiedImageError:
        kind = "an SVG drawing" if b"<svg" in head else "not an image we read"
        raise NotAnImageError(
            f"this is {kind}: send PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF or JPEG 2000 (or PDF on the page)"
        ) from None
    except Exception as error:  # plugins raise RuntimeError (AVIF), TypeError, KeyError and more on damaged headers
        raise make_decode_error(error) from None


def is_heic(head: bytes) -> bool:
    """Return whether this is a HEIC photo, with its decoder registered. Raises NotAnImageError if there is none."""
    if head[4:8] != b"ftyp" or head[8:12] not in HEIC or b"avif" in head[16:64]:
        return False
    try:
        if "HEIF" not in Image.OPEN:
            import_module("pillow_heif").register_heif_opener(thumbnails=False)
    except ImportError:
        raise NotAnImageError(
            "this is a HEIC photo: install its decoder (pip install 'dormouse-search[heic]'), or send it as JPEG"
        ) from None
    return True


def decode_image(source: bytes | Path, settings: Settings, frame: int = 0) -> Image.Image:
    """Decode an image to a canonical page image.

    Raises NotAnImageError (no format we read), TooLargeError (from the header, nothing decoded) or UnreadableError.
    """
    with open_image(source) as image:
        try:
            if frame:
                image.seek(frame)
            check_size(image, settings)
            if image.format == "JPEG":
                # Decodes at 1/2, 1/4 or 1/8 where that still covers the size we keep: a third of the time for photos.
                image.draft(None, (settings.max_side, settings.max_side))
            image.load()
            return canonicalise_image(image, settings.max_side)
        except ServingError:
            raise
        except Exception as error:  # decoders raise struct.error, IndexError, KeyError and more on damaged data
            raise make_decode_error(error) from None


def make_decode_error(error: Exception) -> ServingError:
    """Return the error for Pillow's own, without object addresses or paths."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return TooLargeError(f"the image has more than {PILLOW_PIXELS // 1_000_000} megapixels: send it smaller")
    words = str(error).split(" for ")[0].split("<_io")[0].strip()
    return UnreadableError(f"the image is damaged: {words[:120] or type(error).__name__}")


def canonicalise_image(image: Image.Image, max_side: int) -> Image.Image:
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = scale_to_eight_bits(image)
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow itself turns it at 8 bits only
            image = ImageOps.invert(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*choose_background(image), 255)), image)
    return image.convert("RGB")


def choose_background(image: Image.Image) -> tuple[int, int, int]:
    """Return the grey on which an RGBA image is shown: white, unless words without a background would vanish on it."""
    values = np.asarray(image)
    drawn = cut_blocks(values[..., 3] > 127)
    whole = drawn.all(axis=(1, 3))
    words = drawn.any(axis=(1, 3)) & ~whole
    if words.sum() > whole.sum():  # else a picture with a background of its own, whose edges these are
        light = cut_blocks(values[..., :3].mean(axis=2))
        for grey in (255, 0, 128):
            contrast = np.where(drawn, np.abs(light - grey), 0).max(axis=(1, 3))
            if (contrast[words] > CONTRAST).mean() > 0.9:
                return grey, grey, grey
    return 255, 255, 255


def cut_blocks(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values as [rows, BLOCK, columns, BLOCK], without what is left over at the right and below."""
    rows, columns = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    return values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)


def scale_to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey of 9 to 32 bits and float to 8 bits: Pillow's own conversion clips all above 255 to white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    if image.mode == "F" and 0.0 < top <= 1.0:
        values = values * 255.0
    else:
        values = values * (255.0 / next((depth for depth in DEPTHS if top <= depth), top))
    return Image.fromarray(np.clip(values, 0.0, 255.0).round().astype(np.uint8))


def encode_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def encode_thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()
