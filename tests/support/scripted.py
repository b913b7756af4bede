"""A test double of an embedder: settable delays, vectors and failures. Never used in a figure."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from serving.documents.page import Line, Page
from serving.embedders.base import Lanes, PageResult, Vectors
from serving.errors import UnreadableError


def unit(text: str, dimension: int) -> Vectors:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


class Scripted:
    name = "scripted"
    title = "Scripted test double"
    dimension = 2560
    dimensions: tuple[int, ...] = (768, 1536, 2560)
    reads_text = True
    scripts: tuple[str, ...] = ("Latin", "Cyrillic")
    fingerprint = "scripted-1"
    device: Literal["cpu", "cuda"] = "cpu"
    backends: tuple[str, ...] = ("criu", "fork")

    def __init__(self, seconds: float = 0.0, lanes: Lanes | None = None) -> None:
        self.seconds = seconds
        self.lanes = lanes or Lanes(page_batch=4, page_workers=1, query_batch=8)
        self.calls: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.nan = False
        self.refuses = "unreadable"
        """A word on pages and in questions that cannot be read."""
        self.loaded = False

    def load(self) -> None:
        self.loaded = True

    def warm_up(self) -> None: ...

    def sleep(self) -> None:
        self.loaded = False

    def wake(self) -> None:
        self.loaded = True

    def close(self) -> None: ...

    def prepare(self, page: Page) -> Page:
        return page

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        return np.stack([self._vector(text, list(queries)) for text in queries])

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]:
        names = [self._describe(page) for page in pages]
        return [self._result(page, name, names) for page, name in zip(pages, names, strict=True)]

    def _result(self, page: Page, name: str, batch: list[str]) -> PageResult:
        lines = page.lines or (Line(name),)
        vectors = np.stack([unit(line.text, self.dimension) for line in lines]) if page.explain else None
        return PageResult(self._vector(name, batch), lines, vectors)

    def probe(self) -> Vectors:
        return self.embed_queries(["probe"])

    @staticmethod
    def _describe(page: Page) -> str:
        if page.lines:
            return " ".join(line.text for line in page.lines)
        assert page.image is not None
        return f"{page.image.size} {hashlib.sha256(page.image.tobytes()).hexdigest()}"

    def _vector(self, text: str, batch: list[str]) -> Vectors:
        if text == batch[0]:
            self.calls.append(batch)
            self.gate.wait(30)
            time.sleep(self.seconds)
        if any(self.refuses in item for item in batch):
            raise UnreadableError("scripted: one of these cannot be read")
        if any("crash" in item for item in batch):
            raise RuntimeError("scripted: secret detail of the crash")
        vector = unit(text, self.dimension)
        return vector * np.float32("nan") if self.nan or "not a number" in text else vector


class Coloured(Scripted):
    """Sees colours and reads nothing: a page's vector is its mean colour, a question's the colour that it names."""

    name = "coloured"
    title = "Coloured test double"
    dimension = 3
    dimensions: tuple[int, ...] = (2, 3)
    reads_text = False
    fingerprint = "coloured-1"

    def __init__(self) -> None:
        super().__init__(lanes=Lanes(page_batch=32, page_workers=1, query_batch=8))

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]:
        self.calls.append([str(page.image and page.image.size) for page in pages])
        self.gate.wait(30)
        return [PageResult(self._mean(page)) for page in pages]

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        return np.stack([self._unit(np.array(ImageColor.getrgb(query.split()[-1]))) for query in queries])

    def _mean(self, page: Page) -> Vectors:
        assert page.image is not None
        return self._unit(np.asarray(page.image).mean(axis=(0, 1)))

    @staticmethod
    def _unit(colour: NDArray[Any]) -> Vectors:
        return np.asarray(colour / np.linalg.norm(colour), dtype=np.float32)
