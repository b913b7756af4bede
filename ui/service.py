"""What the page and its API do, without any widget: add, search, delete. One instance for a process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.client import EmbeddingClient, PagePayload
from serving.embedders import Vectors
from serving.errors import BadValueError, UnreadableError
from serving.library import Library
from serving.pages import encode_jpeg, open_file
from serving.prompts import canonical_query
from serving.records import Hit
from serving.settings import Settings
from ui.ingest import Ingestor
from ui.runs import Runs
from ui.targets import Targets

MAX_TOP_K = 50


@dataclass(frozen=True)
class Found:
    hits: list[Hit]
    query: Vectors
    """float32[dimension], what the hits were ranked by"""
    timings: dict[str, float]
    """Milliseconds: embed (with the way to the worker), search, total."""


class Service:
    def __init__(self, targets: Targets, library: Library, limits: Settings, *, engines: bool = True) -> None:
        """`engines`: this machine may run engines of its own, to measure them."""
        self.engines = engines
        self.targets = targets
        self.library = library
        self.limits = limits
        self.ingestor = Ingestor(targets.first, library, limits)
        self.runs = Runs(limits.data)

    def close(self) -> None:
        self.runs.close()
        self.ingestor.close()
        self.library.close()

    def search(
        self,
        text: str,
        image: Path | None,
        collection: str,
        top_k: int,
        dimension: int | None = None,
        target: str | None = None,
    ) -> Found:
        """By words, by an image, or by the mean of both. `target` names the server; None is the first.

        Raises ServingError; FingerprintError where that server's vectors cannot be compared with the collection's.
        """
        began = time.perf_counter()
        chosen = self.targets.of(target)
        if not 1 <= top_k <= MAX_TOP_K:
            raise BadValueError(f"top_k is 1 to {MAX_TOP_K}", param="top_k")
        if dimension is not None and dimension != (known := chosen.known or chosen.info()).dimension:
            raise BadValueError(
                f"pages are compared in {known.dimension} dimensions: leave dimension empty", param="dimension"
            )
        chosen.check(self.library, collection)
        vectors, fingerprint = self._query_vectors(chosen.client, text, image)
        query = np.mean(vectors, axis=0)
        query = np.asarray(query / np.linalg.norm(query), dtype=np.float32)
        embedded = time.perf_counter()
        hits = self.library.search(collection, query, top_k, fingerprint)
        ended = time.perf_counter()
        timings = {"embed": embedded - began, "search": ended - embedded, "total": ended - began}
        return Found(hits, query, {name: round(value * 1000, 2) for name, value in timings.items()})

    def _query_vectors(self, client: EmbeddingClient, text: str, image: Path | None) -> tuple[list[Vectors], str]:
        vectors = []
        fingerprint = ""
        if text.strip() or image is None:
            query = canonical_query(text, "query")
            if len(query) > self.limits.max_text_chars:
                raise BadValueError(f"the query is longer than {self.limits.max_text_chars} characters", param="query")
            answer = client.embed_queries([query])
            vectors, fingerprint = [answer.vectors[0]], answer.fingerprint
        if image is not None:
            page = open_file(image, self.limits).read(0)
            if page.image is None:
                raise UnreadableError("the query image cannot be read", param="image")
            answer = client.embed_pages([PagePayload(encode_jpeg(page.image), page.lines)])
            vectors, fingerprint = [*vectors, answer.vectors[0]], answer.fingerprint
        return vectors, fingerprint

    def delete(self, collection: str, ids: Sequence[str]) -> list[str]:
        return self.library.delete(collection, ids)
