"""What both servers of BiGemma3 have in common: the weights' sizes, the square that a page becomes, the probe.

Imports neither torch nor vLLM: the engine makes an embedder only to know what it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from serving.embedders import PageResult, Vectors
from serving.embedders.checkpoint import Checkpoint, WeightsError
from serving.embedders.square import squared
from serving.errors import UnreadableError
from serving.pages import Page
from serving.settings import Settings

DIMENSIONS = (768, 1536, 2560)
"""That the model was trained to be cut to (Matryoshka)."""


class Gemma(ABC):
    name = "bigemma3"
    reads_text = False

    def __init__(self, settings: Settings) -> None:
        """Raises WeightsError."""
        self.device: Literal["cpu", "cuda"] = settings.device
        self.checkpoint = Checkpoint.open(settings.weights)
        self.dimension = self.checkpoint.hidden_size
        if self.dimension not in DIMENSIONS:
            raise WeightsError(f"{self.checkpoint.path} has {self.dimension} dimensions; BiGemma3 has 2560")
        self.dimensions: tuple[int, ...] = tuple(size for size in DIMENSIONS if size <= self.dimension)

    @abstractmethod
    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]: ...

    @abstractmethod
    def embed_queries(self, queries: Sequence[str]) -> Vectors: ...

    def prepare(self, page: Page) -> Page:
        return page if page.image is None else replace(page, image=self.square(page))

    def square(self, page: Page) -> Image.Image:
        """Itself for a page that was prepared. Raises UnreadableError."""
        if page.image is None:
            raise UnreadableError("the page has no image: this model reads no text layers")
        return squared(page.image, self.checkpoint.image_size)

    def probe(self) -> Vectors:
        """float32[2, dimension], of a query and a page: both ways through the model, all of its weights."""
        (page,) = self.embed_pages([Page(specimen(self.checkpoint.image_size))])
        return np.stack([self.embed_queries(["total due"])[0], page.vector])


def specimen(side: int) -> Image.Image:
    page = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(page)
    for row in range(4):
        draw.text((side // 16, side // 8 + row * side // 5), f"Warm up {row}", fill="black", font_size=side // 10)
    return page
