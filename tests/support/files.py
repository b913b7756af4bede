"""Files that people and attackers send, made here so that each test says what is in them."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, ImageDraw, ImageFont


def picture(
    size: tuple[int, int] = (320, 200), text: str = "", mode: str = "RGB", colour: object = "white"
) -> Image.Image:
    image = Image.new("RGB", size, colour)  # type: ignore[arg-type]
    if text:
        ImageDraw.Draw(image).multiline_text((20, 20), text, "black", ImageFont.load_default(32))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(side: int = 12_000) -> bytes:
    """A well-formed PNG of side x side 1-bit pixels in about 17 kB."""
    return flat_png(side, side, bytes(side // 8), 1, 0)


def flat_png(width: int, height: int, row: bytes, depth: int, colours: int) -> bytes:
    """A PNG whose rows are all `row`; `colours` is PNG's number of the kind of its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" + row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def rotated_jpeg() -> bytes:
    """A wide picture stored upright: left half red, right half blue once its EXIF orientation (6) is applied."""
    wide = Image.new("RGB", (400, 200), "blue")
    wide.paste((255, 0, 0), (0, 0, 200, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(wide.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)


def pdf(pages: list[list[str]], password: str = "", rotate: int = 0, size: tuple[float, float] = (595, 842)) -> bytes:
    """One page for each list of lines, with a text layer; lines stand 30 pt apart from y=780 down."""
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    lock = StandardEncryption(password, ownerPassword="owner") if password else None
    canvas = Canvas(buffer, pagesize=size, encrypt=lock, invariant=True)
    for lines in pages:
        canvas.setPageRotation(rotate)
        canvas.setFont("Helvetica", 18)
        for number, line in enumerate(lines):
            canvas.drawString(60, size[1] - 62 - 30 * number, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()
