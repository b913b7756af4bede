from __future__ import annotations

import io
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFont

from serving.documents import images
from serving.documents.files import open_file
from serving.documents.images import decode_image, encode_jpeg, encode_thumbnail
from serving.documents.page import Page
from serving.documents.parser_pool import Parse
from serving.errors import NotAnImageError, ServingError, TooLargeError, UnreadableError
from serving.settings import Settings
from tests.support.files import encoded, huge_png, picture, rotated_jpeg
from tests.support.repository import ROOT


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000"])
def test_formats(kind: str, settings: Settings) -> None:
    image = decode_image(encoded(picture(colour=(200, 30, 40)), kind), settings)
    assert image.mode == "RGB" and image.size == (320, 200)
    assert np.allclose(np.asarray(image)[100, 100], (200, 30, 40), atol=8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_modes_become_rgb(mode: str, settings: Settings) -> None:
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "TIFF" if mode in ("F", "I", "I;16") else "PNG"
    source = picture(mode="L" if mode in ("I;16",) else mode)
    if mode == "I;16":
        source = Image.fromarray(np.full((200, 320), 65535, np.uint16))
    image = decode_image(encoded(source, kind), settings)
    assert image.mode == "RGB" and np.asarray(image).min() >= 250  # white stays white in every mode


def test_transparent_is_white_not_black(settings: Settings) -> None:
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    assert np.asarray(decode_image(encoded(clear), settings)).min() == 255
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert np.asarray(decode_image(encoded(palette, transparency=0), settings)).min() == 255


def test_16_bit_is_scaled_not_clipped(settings: Settings) -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (64, 1))
    grey = np.asarray(decode_image(encoded(Image.fromarray(ramp)), settings))[0, :, 0]
    assert grey[0] == 0 and grey[-1] == 255 and abs(int(grey[128]) - 128) <= 1


def test_exif_orientation_is_applied(settings: Settings) -> None:
    image = decode_image(rotated_jpeg(), settings)
    assert image.size == (400, 200)
    left, right = np.asarray(image)[100, 50], np.asarray(image)[100, 350]
    assert left[0] > 200 and right[2] > 200


def test_large_images_are_reduced(settings: Settings) -> None:
    assert decode_image(encoded(picture((6000, 3000)), "JPEG"), settings).size == (2000, 1000)
    assert decode_image(encoded(picture((2400, 2000))), settings).size == (2000, 1667)
    assert decode_image(encoded(picture((1, 1))), settings).size == (1, 1)


@pytest.mark.parametrize("size", [(800, 8_000), (1_280, 16_080), (4_000, 420), (90, 30_000), (2_000, 15_000)])
def test_long_pictures_stay_readable(size: tuple[int, int], settings: Settings) -> None:
    """A receipt, a chat, a panorama; a worker keeps them as it gets them."""
    image = decode_image(encoded(picture(size, "words on it", mode="L"), "PNG", compress_level=1), settings)
    assert min(image.size) == min(1_000, *size) and image.width * image.height <= settings.max_page_pixels
    assert decode_image(encode_jpeg(image), settings).size == image.size
    assert decode_image(encoded(picture(size), "JPEG"), settings).size == image.size
    with Image.open(io.BytesIO(encode_thumbnail(image))) as small:
        assert max(small.size) == min(480, 2 * min(size)) and max(small.size) == 2 * min(small.size)


MODES = {
    "1": "TIFF", "L": "PNG", "P": "PNG", "LA": "PNG", "RGB": "PNG", "RGBA": "PNG", "CMYK": "TIFF", "I;16": "TIFF",
    "F": "TIFF", "LAB": "TIFF",
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_what_is_reduced_in_strips_looks_the_same(
    mode: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = Image.effect_noise((50, 31), 90).resize((1_500, 2_007), Image.Resampling.BICUBIC).convert("RGB")
    photo.paste((200, 30, 40), (0, 0, 700, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    if mode == "I;16":
        source = Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 16)
    elif mode == "LAB":
        source = convert_to_lab(photo)
    else:
        source = photo.convert(mode)
    data = encoded(source, MODES[mode], exif=exif)
    limits = settings.model_copy(update={"max_side": 256})
    whole = np.asarray(decode_image(data, limits), np.int16)
    monkeypatch.setattr(images, "WHOLE_PIXELS", 1_000_000)
    strips = np.asarray(decode_image(data, limits), np.int16)
    assert whole.shape == strips.shape == (191, 256, 3)
    assert np.abs(whole - strips).mean() < 1 and np.abs(whole - strips).max() < 48


@pytest.mark.parametrize("levels", [0, 1, 5])
def test_a_large_jpeg_2000_is_decoded_small(levels: int, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "WHOLE_PIXELS", 1_000_000)
    data = encoded(picture((1_700, 1_200), colour="teal"), "JPEG2000", num_resolutions=levels + 1)
    with images.open_image(data) as image:
        images.decode_reduced(image, 256, 256)
        assert image.width == 1_700 // 2 ** min(levels, 2)
        assert images.canonicalise_image(image, 256).size == (256, 181)
    image = decode_image(data, settings.model_copy(update={"max_side": 256}))
    assert np.allclose(np.asarray(image)[100, 100], (0, 128, 128), atol=3)


def convert_to_lab(image: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    found = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert found is not None
    return found


COLOURS = {"red": (220, 30, 40), "indigo": (60, 40, 140), "olive": (120, 120, 20), "paper": (250, 248, 240)}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_of_print_are_right(name: str, settings: Settings) -> None:
    """LAB, and CMYK as Adobe's programs store it: the other way round."""
    colour = COLOURS[name]
    patch = Image.new("RGB", (64, 64), colour)
    lab = decode_image(encoded(convert_to_lab(patch), "TIFF"), settings)
    assert np.abs(np.asarray(lab, np.int16) - colour).max() < 6
    data = encoded(patch.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.abs(np.asarray(decode_image(data, settings), np.int16) - colour).max() < 6


DECODE = """
import resource, sys
from pathlib import Path
from serving.documents.images import decode_image
from serving.settings import Settings
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(*decode_image(Path(sys.argv[1]), Settings()).size)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="macOS counts in bytes")
def test_a_photo_of_150_megapixels_is_decoded_small(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (15_000, 10_000), "teal").save(path, "JPEG")
    done = subprocess.run([sys.executable, "-c", DECODE, path], capture_output=True, text=True, check=True, cwd=ROOT)
    size, megabytes = done.stdout.splitlines()
    assert size == "2000 1333" and int(megabytes) < 100, "at its own size it would take 450 MB"
    Image.new("L", (15_000, 10_000)).save(path, "JPEG", progressive=True)
    with pytest.raises(TooLargeError, match="15000 x 10000 pixels; the limit is 50 megapixels"):
        decode_image(path, settings)


def test_huge_png_is_refused_from_its_header(settings: Settings) -> None:
    data = huge_png()
    assert len(data) < 25_000
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="megapixels"):
        decode_image(data, settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    with pytest.raises(TooLargeError, match="megapixels"):
        decode_image(huge_png(24_000), settings)  # past Pillow's own limit
    with pytest.raises(TooLargeError, match="8000 x 8000"):
        decode_image(huge_png(8_000), settings)  # within Pillow's, past ours


def test_damaged_and_foreign_bytes(settings: Settings) -> None:
    whole = encoded(picture((800, 600), "hello"), "JPEG")
    for cut in (len(whole) // 2, len(whole) - 200, 30):
        with pytest.raises((UnreadableError, NotAnImageError)):
            decode_image(whole[:cut], settings)
    with pytest.raises(NotAnImageError, match="not an image we read"):
        decode_image(b"just text, named .png", settings)
    with pytest.raises(NotAnImageError, match="SVG"):
        decode_image(b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', settings)
    with pytest.raises(NotAnImageError):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n", settings)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "WEBP", "GIF", "PNG", "JPEG2000"])
def test_flipped_bytes_are_an_error_of_ours_or_a_picture(
    kind: str, settings: Settings, tmp_path: Path, parse: Parse
) -> None:
    chance = random.Random(kind)
    frames = [picture((60, 40), colour=colour) for colour in ("red", "green")]
    many = {"save_all": True, "append_images": frames[1:]} if kind in ("TIFF", "GIF", "WEBP", "AVIF") else {}
    whole = encoded(frames[0], kind, **many)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            for page in open_file(write(tmp_path, bytes(data)), settings, parse):
                assert isinstance(page, (Page, ServingError))
        except ServingError:
            pass


def test_messages_hold_no_addresses_or_paths(settings: Settings) -> None:
    whole = encoded(picture((800, 600), "hello"))
    with pytest.raises((UnreadableError, NotAnImageError)) as caught:
        decode_image(whole[: len(whole) // 2], settings)
    assert "0x" not in caught.value.message and "/" not in caught.value.message


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_thin_pictures(size: tuple[int, int], kind: str, settings: Settings) -> None:
    if kind == "WEBP" and max(size) > 16_383:
        size = (min(size[0], 16_383), min(size[1], 16_383))
    image = decode_image(encoded(picture(size, colour="red"), kind), settings)
    assert image.mode == "RGB" and image.size == size


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_transparency_is_on_white(kind: str, settings: Settings) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 1), 1)
    shown = decode_image(encoded(image, kind, transparency=0), settings)
    assert shown.getpixel((0, 0)) == (255, 255, 255) and shown.getpixel((1, 1)) == (255, 0, 0)


def test_heic_is_read_where_its_extra_is_and_told_where_it_is_not(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parse: Parse
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    photo = picture((640, 400), "a photo")
    pillow_heif.from_pillow(photo).save(buffer, quality=90)
    path = write(tmp_path, buffer.getvalue())
    page = open_file(path, settings, parse).read(0)
    assert page.image is not None and page.image.size == (640, 400) and open_file(path, settings, parse).count == 1
    assert np.abs(np.asarray(page.image, np.int16) - np.asarray(photo, np.int16)).mean() < 8
    with pytest.raises(TooLargeError, match="640 x 400"):
        open_file(path, Settings(data=tmp_path, max_file_pixels=100_000), parse)
    with pytest.raises((UnreadableError, NotAnImageError)):
        open_file(write(tmp_path, buffer.getvalue()[:200]), settings, parse).read(0)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(NotAnImageError, match=r"HEIC photo.*dormouse-search\[heic\]"):
        decode_image(buffer.getvalue(), settings)
    assert decode_image(encoded(photo, "AVIF"), settings).size == (640, 400)  # a sister of it needs nothing


POLYGLOTS = {
    "a script after a GIF": (b"<script>alert(1)</script>", "GIF"),
    "a web page after a JPEG": (b"<html><svg onload=alert(1)>", "JPEG"),
    "a zip after a PNG": (b"PK\x03\x04 and more of a zip", "PNG"),
}


@pytest.mark.parametrize("name", POLYGLOTS)
def test_polyglots_leave_only_their_pixels(name: str, settings: Settings, tmp_path: Path, parse: Parse) -> None:
    tail, kind = POLYGLOTS[name]
    page = open_file(write(tmp_path, encoded(picture((40, 30)), kind) + tail), settings, parse).read(0)
    assert page.image is not None and page.image.size == (40, 30)
    assert tail not in encode_jpeg(page.image)


def test_encode_jpeg_survives_decode(settings: Settings) -> None:
    image = picture((300, 300), "words")
    again = decode_image(encode_jpeg(image), settings)
    assert np.abs(np.asarray(again, np.int16) - np.asarray(image, np.int16)).mean() < 2


def write(folder: Path, data: bytes) -> Path:
    path = folder / "file.bin"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("depth", [10, 12, 14, 16])
@pytest.mark.parametrize("turned", [False, True])
def test_deep_grey_keeps_black_and_white(depth: int, turned: bool, settings: Settings) -> None:
    """10 or 12 bits in 16, also where 0 is white."""
    words = np.asarray(picture(text="4711").convert("L"), np.uint16)
    values = words.astype(np.uint32) * (2**depth - 1) // 255
    stored = (2**depth - 1 - values if turned else values).astype(np.uint16)
    data = encoded(Image.fromarray(stored), "TIFF", tiffinfo={262: 0 if turned else 1})
    shown = np.asarray(decode_image(data, settings))[:, :, 0]
    assert np.abs(shown.astype(int) - words).max() <= 1


@pytest.mark.parametrize("ink", ["white", "ivory", "black", "navy", "tan"])
def test_words_on_transparency_are_seen(ink: str, settings: Settings) -> None:
    clear = Image.new("RGBA", (400, 200), (0, 0, 0, 0))
    ImageDraw.Draw(clear).text((20, 60), "regatta of boats", ink, ImageFont.load_default(40))
    shown = np.asarray(decode_image(encoded(clear), settings).convert("L"))
    assert int(shown.max()) - int(shown.min()) > 60
    assert (shown[0, 0] == 255) == (ink in ("black", "navy", "tan")), "white wherever the words can be read on it"


def test_words_of_both_kinds_on_transparency_are_seen(settings: Settings) -> None:
    clear = Image.new("RGBA", (400, 200), (0, 0, 0, 0))
    for top, ink in ((20, "white"), (100, "black")):
        ImageDraw.Draw(clear).text((20, top), "regatta of boats", ink, ImageFont.load_default(40))
    shown = np.asarray(decode_image(encoded(clear), settings).convert("L"))
    assert shown[:90].max() - shown[0, 0] > 60 < shown[0, 0] - shown[90:].min()


def test_a_card_with_clear_corners_stays_on_white(settings: Settings) -> None:
    card = Image.new("RGBA", (400, 300), (0, 0, 0, 0))
    ImageDraw.Draw(card).rounded_rectangle((10, 10, 390, 290), 30, "white")
    ImageDraw.Draw(card).text((60, 60), "black on white", "black", ImageFont.load_default(40))
    assert decode_image(encoded(card), settings).getpixel((0, 0)) == (255, 255, 255)


def test_thumbnails_of_a_tiff_are_no_pages(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    pages = [picture((300, 400), name) for name in ("one", "two", "three")]
    frames = [frame for page in pages for frame in (page, page.resize((30, 40)))]
    for frame, kind in zip(frames, (2, 1) * 3, strict=True):
        frame.encoderinfo = {"tiffinfo": {254: kind}}
    path = tmp_path / "pages.tif"
    frames[0].save(path, "TIFF", save_all=True, append_images=frames[1:], tiffinfo={254: 2})
    file = open_file(path, settings, parse)
    assert file.count == 3
    read = [page.image for page in file if isinstance(page, Page)]
    assert [image.size for image in read if image] == [(300, 400)] * 3


def test_a_tiff_of_nothing_but_small_copies_has_a_page(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    path = tmp_path / "small.tif"
    picture((60, 40)).save(path, "TIFF", tiffinfo={254: 1})
    assert open_file(path, settings, parse).count == 1
