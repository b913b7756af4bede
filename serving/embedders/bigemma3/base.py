"""The common half of both BiGemma3 embedders: the checkpoint, the square that a page becomes, the probe.

Imports neither torch nor vLLM: the engine makes an embedder only to know what it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from serving.documents.page import Page
from serving.embedders.base import GpuEmbedder, Vectors
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.embedders.gpu.weight_arena import WeightsError
from serving.errors import UnreadableError
from serving.settings import Settings

DIMENSIONS = (768, 1536, 2560)
"""The sizes that the model was trained to be cut to (Matryoshka)."""


class BiGemma3Base(GpuEmbedder):
    """An embedder of BiGemma3's checkpoint."""

    name = "bigemma3"
    reads_text = False
    weight_files: tuple[Path, ...] = ()
    waking_bytes = 0
    copy_ms = 0.0

    @property
    def compiled(self) -> int:
        return 0

    def __init__(self, settings: Settings) -> None:
        """Find the checkpoint. Raises WeightsError."""
        self.device: Literal["cpu", "cuda"] = settings.device
        self.checkpoint = Checkpoint.open(settings.weights)
        self.dimension = self.checkpoint.hidden_size
        if self.dimension not in DIMENSIONS:
            raise WeightsError(f"{self.checkpoint.path} has {self.dimension} dimensions; BiGemma3 has 2560")
        self.dimensions: tuple[int, ...] = tuple(size for size in DIMENSIONS if size <= self.dimension)

    def prepare(self, page: Page) -> Page:
        return page if page.image is None else replace(page, image=self.make_square(page))

    def make_square(self, page: Page) -> Image.Image:
        """Return the page's image as the square that the model sees. Raises UnreadableError."""
        if page.image is None:
            raise UnreadableError("the page has no image: this model reads no text layers")
        return resize_square(page.image, self.checkpoint.image_size)

    def probe(self) -> Vectors:
        """Return float32[2, dimension] for a query and a page: together they use all of the model's weights."""
        (page,) = self.embed_pages([Page(warm_up_image(self.checkpoint.image_size))])
        return np.stack([self.embed_queries(["total due"])[0], page.vector])


def resize_square(image: Image.Image, size: int) -> Image.Image:
    """Return the whole RGB image stretched to `size` x `size` pixels; the same object if it has that size.

    The filter is that of Gemma 3's own image processor (bilinear, over all source pixels), whose resize then finds
    nothing left to do, with HuggingFace's libraries and with vLLM's.
    """
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def warm_up_image(side: int) -> Image.Image:
    page = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(page)
    for row in range(4):
        draw.text((side // 16, side // 8 + row * side // 5), f"Warm up {row}", fill="black", font_size=side // 10)
    return page
