"""Pages in the shapes and colour modes that people send."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.support.files import encoded, rotated_jpeg


@dataclass(frozen=True)
class Picture:
    name: str
    data: bytes


def drawn(size: tuple[int, int], number: int) -> Image.Image:
    """RGB; three bands of stripes whose angle, width and colours depend on `number`, and a word.

    Random weights see texture best, and its order down the page is what tells the two kinds of attention apart.
    """
    width, height = size
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    random = np.random.default_rng(number)
    band = np.minimum((y * 3).astype(int), 2)
    angle, pace = random.uniform(0, np.pi, 3)[band], random.uniform(8, 160, 3)[band]
    stripes = (np.sin((x * np.cos(angle) + y * np.sin(angle)) * pace) > random.uniform(-0.7, 0.7)).astype(int)
    image = Image.fromarray(random.integers(0, 256, (3, 2, 3)).astype(np.uint8)[band, stripes])
    ImageDraw.Draw(image).text((width // 10, height // 3), f"Page {number}", "black", ImageFont.load_default(20))
    return image


def transparent(number: int) -> Image.Image:
    image = drawn((300, 260), number).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def pictures() -> list[Picture]:
    return [
        Picture("RGB", encoded(drawn((620, 877), 1))),
        Picture("L", encoded(drawn((400, 300), 2).convert("L"))),
        Picture("P", encoded(drawn((400, 300), 3).quantize(64))),
        Picture("CMYK", encoded(drawn((300, 400), 4).convert("CMYK"), "JPEG", quality=95)),
        Picture("RGBA", encoded(transparent(5))),
        Picture("turned by EXIF", rotated_jpeg()),
        Picture("tall", encoded(drawn((60, 900), 6))),
        Picture("wide", encoded(drawn((900, 60), 7))),
        Picture("tiny", encoded(drawn((14, 11), 8))),
        Picture("large", encoded(drawn((1900, 1400), 9), "JPEG", quality=90)),
        Picture("of the model's own size", encoded(drawn((224, 224), 10))),
    ]
