"""Decodes image bytes to bounded RGB pages: the only module that makes an image canonical.

Canonical means: EXIF orientation applied, transparency on white, 16-bit scaled to 8, RGB, at most the size that
`page_size` says.
All embedders and the pictures on the page start from this, so that servers agree and a hit looks like its file.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, Jpeg2KImagePlugin, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from serving.documents.page_size import measure_kept_side
from serving.errors import GONE, NotAnImageError, ServingError, TooLargeError, UnreadableError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000")
"""An allow-list: Pillow also opens EPS (runs Ghostscript), FITS and PSD (decompression bombs)."""
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of HEIF files, at byte 8; AVIF has brands of its own, which Pillow asks for first."""
THUMBNAIL = 480
JPEG_QUALITY = 92
"""The OCR reads the same words as from PNG; a page of text takes about 0.3 MB and 15 ms."""

CODESTREAM, CODING_STYLE = b"\xff\x4f\xff\x51", b"\xff\x52"
"""Markers of JPEG 2000."""
HEAD_BYTES = 65_536
ORIENTATION = 0x0112
WHOLE_PIXELS = 50_000_000
"""Larger images are reduced strip by strip, so that they are in memory only once."""
STRIP_ROWS = 64
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
DEPTHS = (255, 1_023, 4_095, 16_383, 65_535)
"""Largest values of 8 to 16 bits: scanners and X-ray devices write 10 or 12 bits into 16."""
BLOCK = 16
"""Pixels; words are thinner."""
CONTRAST = 64
"""Of 255: less between ink and background is hard to read."""

Image.MAX_IMAGE_PIXELS = PILLOW_PIXELS = 200_000_000
"""Of any image, before its format is known; `max_pixels` and `max_file_pixels` are checked then."""
warnings.simplefilter("error", Image.DecompressionBombWarning)


class ImageLimits(Protocol):
    """The settings that bound an image."""

    @property
    def max_pixels(self) -> int: ...
    @property
    def max_file_pixels(self) -> int: ...
    @property
    def max_side(self) -> int: ...
    @property
    def max_page_pixels(self) -> int: ...


def check_size(image: Image.Image, limits: ImageLimits) -> None:
    """Raise TooLargeError for an image that would take too much memory, or time, to decode."""
    is_photo = image.format == "JPEG" and not image.info.get("progressive")
    if count_pixels(image) > (limit := limits.max_file_pixels if is_photo else limits.max_pixels):
        size = f"{image.width} x {image.height}"
        raise TooLargeError(f"the image has {size} pixels; the limit is {limit // 1_000_000} megapixels")


def count_pixels(image: Image.Image) -> int:
    return image.width * image.height


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
        # WebP's takes the memory for all of the image before its size is known.
        raise make_decode_error(error, is_large=head[8:12] == b"WEBP") from None


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


def decode_image(source: bytes | Path, limits: ImageLimits, frame: int = 0) -> Image.Image:
    """Decode an image to a canonical page image.

    Raises NotAnImageError (no format we read), TooLargeError (from the header, or short of memory) or UnreadableError.
    """
    with open_image(source) as image:
        is_large = False
        try:
            if frame:
                image.seek(frame)
            check_size(image, limits)
            is_large = count_pixels(image) > WHOLE_PIXELS
            side = measure_kept_side(*image.size, limits.max_side, limits.max_page_pixels)
            orientation = image.getexif().pop(ORIENTATION, 1)  # else a TIFF is turned in a copy of all of it
            decode_reduced(image, side, limits.max_side)
            return canonicalise_image(image, side, orientation)
        except ServingError:
            raise
        except MemoryError:
            raise TooLargeError("the image needs more memory than it may take here: send it smaller") from None
        except Exception as error:  # decoders raise struct.error, IndexError, KeyError and more on damaged data
            raise make_decode_error(error, is_large) from None


def decode_reduced(image: Image.Image, side: int, max_side: int) -> None:
    """Decode at a part of the size that still covers the one we keep, where the format can."""
    is_large = count_pixels(image) > WHOLE_PIXELS
    if image.format == "JPEG" or (is_large and isinstance(image, JpegImagePlugin.JpegImageFile)):
        # At 1/2, 1/4 or 1/8: a third of the time for photos.
        image.draft(None, (max_side, max_side) if side == max_side else (max_side // 2, max_side // 2))
    if is_large and isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
        halvings = min(count_levels(image), int(math.log2(max(image.size) / side)))
        (tile,) = image.tile
        assert isinstance(tile.args, tuple)
        # Not `image.reduce`, which rounds: OpenJPEG rounds up, and takes what does not fit for damage.
        image._size = tuple(-(-length // 2**halvings) for length in image.size)
        image.tile = [tile._replace(extents=(0, 0, *image.size), args=(tile.args[0], halvings, *tile.args[2:]))]
    image.load()
    image._size = image.im.size  # a TIFF names the size that it has when turned


def count_levels(image: Jpeg2KImagePlugin.Jpeg2KImageFile) -> int:
    """Return how often a JPEG 2000 image can be decoded at half its size: OpenJPEG takes more for damage."""
    assert image.fp is not None
    image.fp.seek(0)
    _, found, after = image.fp.read(HEAD_BYTES).partition(CODESTREAM)
    style = after.partition(CODING_STYLE)[2]
    return style[7] if found and len(style) > 7 else 0


def make_decode_error(error: Exception, is_large: bool = False) -> ServingError:
    """Return the error for Pillow's own, without object addresses or paths.

    Decoders have no error of their own for a lack of memory, which is likely for an image that `is_large`.
    """
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return TooLargeError(f"the image has more than {PILLOW_PIXELS // 1_000_000} megapixels: send it smaller")
    if is_large:
        return UnreadableError("the image is damaged, or it needs more memory than it may take here: send it smaller")
    words = str(error).split(" for ")[0].split("<_io")[0].strip()
    return UnreadableError(f"the image is damaged: {words[:120] or type(error).__name__}")


def canonicalise_image(image: Image.Image, side: int, orientation: int = 1) -> Image.Image:
    """Return a loaded image in its canonical form, its longer side at most `side`, turned as EXIF's `orientation`."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    plain = PlainForm(measure_scale(image), tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
    factor = max(image.size) // (2 * side) if count_pixels(image) > WHOLE_PIXELS else 1
    if factor > 1:
        image = reduce_in_strips(image, factor, plain)
    image.getexif()[ORIENTATION] = orientation
    ImageOps.exif_transpose(image, in_place=True)
    image = plain.convert(image)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*choose_background(image), 255)), image)
    return image if image.mode == "RGB" else image.convert("RGB")


class PlainForm(NamedTuple):
    """How an image becomes one of RGBA, RGB, L or CMYK, at its own size, the same in all of its strips."""

    scale: float
    is_turned: bool
    """Whether 0 is white, which Pillow itself turns at 8 bits only."""

    def convert(self, image: Image.Image) -> Image.Image:
        if is_deep(image):
            image = scale_to_eight_bits(image, self.scale)
            if self.is_turned:
                image = ImageOps.invert(image)
        if image.has_transparency_data:
            return image.convert("RGBA")
        if image.mode == "1":
            return image.convert("L")
        return image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB")


def reduce_in_strips(image: Image.Image, factor: int, plain: PlainForm) -> Image.Image:
    """Return an image at a whole part of its size, which is never copied as a whole."""
    mode = plain.convert(image.crop((0, 0, 1, 1))).mode
    reduced = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    for number, strip in enumerate(cut_strips(image, STRIP_ROWS * factor)):
        reduced.paste(plain.convert(strip).reduce(factor), (0, STRIP_ROWS * number))
    return reduced


def cut_strips(image: Image.Image, rows: int) -> Iterator[Image.Image]:
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def choose_background(image: Image.Image) -> tuple[int, int, int]:
    """Return the grey on which an RGBA image is shown: white, unless words without a background would vanish on it."""
    values = np.asarray(image)
    drawn = cut_blocks(values[..., 3] > 127)
    whole = drawn.all(axis=(1, 3))
    words = drawn.any(axis=(1, 3)) & ~whole
    if words.sum() > whole.sum():  # else a picture with a background of its own, whose edges these are
        light = cut_blocks(values[..., :3].mean(axis=2, dtype=np.float32))
        for grey in (255, 0, 128):
            contrast = np.where(drawn, np.abs(light - grey), 0).max(axis=(1, 3))
            if (contrast[words] > CONTRAST).mean() > 0.9:
                return grey, grey, grey
    return 255, 255, 255


def cut_blocks(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values as [rows, BLOCK, columns, BLOCK], without what is left over at the right and below."""
    rows, columns = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    return values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)


def is_deep(image: Image.Image) -> bool:
    """Return whether this is grey of 9 to 32 bits or float: Pillow's own conversion clips all above 255 to white."""
    return image.mode.startswith("I") or image.mode == "F"


def measure_scale(image: Image.Image) -> float:
    """Return what the values of a deep image are multiplied with to become 0..255."""
    if not is_deep(image):
        return 1.0
    top = max(float(read_values(strip).max(initial=0.0)) for strip in cut_strips(image, STRIP_ROWS))
    if image.mode == "F" and 0.0 < top <= 1.0:
        return 255.0
    return 255.0 / next((depth for depth in DEPTHS if top <= depth), top)


def scale_to_eight_bits(image: Image.Image, scale: float) -> Image.Image:
    scaled = Image.new("L", image.size)
    for number, strip in enumerate(cut_strips(image, STRIP_ROWS)):
        values = np.clip(read_values(strip) * scale, 0.0, 255.0).round().astype(np.uint8)
        scaled.paste(Image.fromarray(values), (0, number * STRIP_ROWS))
    return scaled


def read_values(image: Image.Image) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def encode_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def encode_thumbnail(image: Image.Image) -> bytes:
    """Return a small picture in WebP: of a page more than twice as long as wide, its beginning."""
    width, height = min(image.width, 2 * image.height), min(image.height, 2 * image.width)
    scale = min(1.0, THUMBNAIL / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # A large page is first made smaller by averages: half the time, and 0.4 of 255 another colour on average.
    small = image.resize(size, Image.Resampling.LANCZOS, (0, 0, width, height), reducing_gap=1.5)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()
