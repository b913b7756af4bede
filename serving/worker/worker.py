"""A warmed-up embedder behind its lanes: items in, checked vectors out. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from serving.documents.images import decode_image
from serving.documents.page import Page
from serving.embedders.base import Embedder, PageResult, Vectors
from serving.errors import BadValueError, BadVectorError, NotReadyError, ServingError, TooLargeError
from serving.http.responses import StartKind
from serving.http.schema import Item, Query, RawPage
from serving.settings import Settings
from serving.system.timeouts import ms_since
from serving.worker.batcher import Lane, Timing
from serving.worker.metrics import LaneCollector, WorkerMetrics

Outcomes = tuple[tuple[list[PageResult], Timing], tuple[list[Vectors], Timing]]


@dataclass
class WorkerBoot:
    """The time of a worker from a start or a restore to its end."""

    kind: StartKind = "plain"
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    requests: int = 0
    """Requests to the embedding routes so far, failed ones included: the first answer says 1."""
    phases: dict[str, float] = field(default_factory=dict)
    """Milliseconds: start (load and warm up), restore, wake."""
    tier: str = ""
    """The tier held at zero (`serving.snapshots.base.Tier`); empty if the engine's proxy adds it to the answers."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """Results of a request. `vectors`: float32[n, dimension] in the order of the items; `pages`: one for each page."""

    vectors: Vectors
    pages: list[PageResult]
    timings: dict[str, float]


class Worker:
    """Embeds items. Call `start` once, in a plain thread; then `open`, `embed` and `close` on the event loop."""

    def __init__(self, embedder: Embedder, settings: Settings) -> None:
        self.embedder = embedder
        self.settings = settings
        self.boot = WorkerBoot()
        self.metrics = WorkerMetrics()
        self.asleep = False
        self.opened = False
        self.parked = False
        """The embedder outlives this worker: the process waits for another launch."""
        self._in_flight = 0
        self._switching = asyncio.Lock()
        lanes = embedder.lanes
        self.pages: Lane[Page, PageResult] = Lane(
            "pages",
            embedder.embed_pages,
            batch=lanes.page_batch,
            workers=lanes.page_workers,
            queue=lambda: self.settings.page_queue,
            wait_s=lanes.page_wait_s,
        )
        self.queries: Lane[str, Vectors] = Lane(
            "queries",
            lambda texts: list(embedder.embed_queries(texts)),
            batch=lanes.query_batch,
            workers=lanes.query_workers,
            queue=lambda: self.settings.query_queue,
            wait_s=lanes.query_wait_s,
            weigh=len,
            budget=lanes.query_letters,
        )
        self.metrics.registry.register(LaneCollector(cast(list[Lane[Any, Any]], [self.pages, self.queries])))
        self._decoders = ThreadPoolExecutor(settings.cores, thread_name_prefix="decode")

    def start(self) -> None:
        began = time.perf_counter()
        self.embedder.load()
        self.embedder.warm_up()
        self.boot.phases["start"] = ms_since(began)

    def start_boot(self, settings: Settings, kind: StartKind, tier: str = "") -> None:
        """Begin a new boot of a warmed-up process: with these limits and keys, and a boot id never seen before."""
        self.settings = settings
        self.boot = WorkerBoot(kind, tier=tier)

    async def open(self) -> None:
        self.pages.start()
        self.queries.start()
        self.opened = True

    async def close(self) -> None:
        self.opened = False
        await asyncio.gather(self.pages.stop(), self.queries.stop())
        self._decoders.shutdown(wait=False, cancel_futures=True)
        if not self.parked:
            await asyncio.to_thread(self.embedder.close)

    def refuse_waiting(self) -> None:
        self.pages.refuse_waiting()
        self.queries.refuse_waiting()

    @property
    def ready(self) -> bool:
        return self.opened and not self.asleep

    async def sleep(self) -> None:
        """Give the embedder's memory back, after the work that has been started."""
        async with self._switching:
            if not self.asleep:
                self.asleep = True
                while self.pages.depth or self.queries.depth or self._in_flight:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(self.embedder.sleep)

    async def wake(self) -> None:
        async with self._switching:
            if self.asleep:
                began = time.perf_counter()
                await asyncio.to_thread(self.embedder.wake)
                self.boot.phases["wake"] = ms_since(began)
                self.asleep = False

    async def embed(self, items: Sequence[Item], dimension: int | None = None, normalize: bool = True) -> Embedded:
        """Return the vectors of all items, cut to `dimension`. Raises ServingError; then the request has no result."""
        if not self.ready:
            raise NotReadyError("the worker sleeps: POST /wake_up wakes it", code="asleep", retry_after=5)
        self._check_items(items, dimension)
        # Before anything is decoded; the lane looks again when they arrive.
        self.pages.check_room(sum(isinstance(item, RawPage) for item in items))
        self._in_flight += 1
        try:
            async with asyncio.timeout(self.settings.request_timeout_s):
                return await self._embed_items(items, dimension, normalize)
        except TimeoutError:
            message = f"not done within {self.settings.request_timeout_s:g} s"
            raise NotReadyError(message, code="timeout", retry_after=5) from None
        finally:
            self._in_flight -= 1

    def _check_items(self, items: Sequence[Item], dimension: int | None) -> None:
        settings, embedder = self.settings, self.embedder
        if dimension is not None and dimension not in embedder.dimensions:
            sizes = ", ".join(str(size) for size in embedder.dimensions)
            raise BadValueError(f"{embedder.name} has dimensions {sizes}", param="dimensions")
        pages = [item for item in items if isinstance(item, RawPage)]
        if len(pages) > settings.max_pages_per_request:
            raise TooLargeError(f"{len(pages)} pages in one request; the limit is {settings.max_pages_per_request}")
        texts = [item.text for item in items if isinstance(item, Query)]
        if len(texts) > settings.max_texts_per_request:
            raise TooLargeError(f"{len(texts)} texts in one request; the limit is {settings.max_texts_per_request}")
        for page in pages:
            if page.data is None and not embedder.reads_text:
                raise BadValueError(f"{embedder.name} needs the image of a page", param=page.param)
            if page.lines is not None and len(page.lines) > settings.max_lines_per_page:
                raise TooLargeError(f"a page has at most {settings.max_lines_per_page} lines", param=page.param)
            if any(len(line.text) > settings.max_line_chars for line in page.lines or ()):
                raise TooLargeError(f"a line has at most {settings.max_line_chars} characters", param=page.param)

    async def _embed_items(self, items: Sequence[Item], dimension: int | None, normalize: bool) -> Embedded:
        raw = [item for item in items if isinstance(item, RawPage)]
        texts = [item.text for item in items if isinstance(item, Query)]
        began = time.perf_counter()
        threads, decode_page = asyncio.get_running_loop().run_in_executor, self._decode_page
        decoded = await asyncio.gather(*(threads(self._decoders, decode_page, page) for page in raw)) if raw else []
        decode = time.perf_counter() - began
        (page_results, page_time), (query_results, query_time) = await self._submit_items(decoded, texts)
        from_pages, from_queries = iter(page_results), iter(query_results)
        vectors = np.stack(
            [next(from_pages).vector if isinstance(item, RawPage) else next(from_queries) for item in items]
        )
        timings = {
            "decode": decode * 1000,
            "queue": max(page_time.queue, query_time.queue) * 1000,
            "embed": max(page_time.embed, query_time.embed) * 1000,
        }
        for phase, milliseconds in timings.items():
            self.metrics.seconds(phase).observe(milliseconds / 1000)
        pages = [cut_line_vectors(page, dimension) for page in page_results]
        return Embedded(check_vectors(vectors, dimension, normalize), pages, timings)

    async def _submit_items(self, pages: list[Page], texts: list[str]) -> Outcomes:
        if not pages:  # a task for each lane would add a tenth to the time of a query
            return ([], Timing()), await self.queries.submit(texts)
        outcomes = await asyncio.gather(self.pages.submit(pages), self.queries.submit(texts), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return cast(Outcomes, outcomes)

    def _decode_page(self, raw: RawPage) -> Page:
        try:
            image = None if raw.data is None else decode_image(raw.data, self.settings)
        except ServingError as error:
            error.param = error.param or raw.param
            raise
        return self.embedder.prepare(Page(image, raw.lines, raw.explain))


def cut_line_vectors(page: PageResult, dimension: int | None) -> PageResult:
    """Return the page with its lines' vectors cut and normalised; a line of zeros stays one. Raises BadVectorError."""
    vectors = page.line_vectors
    if vectors is None:
        return page
    if not np.isfinite(vectors).all():
        raise BadVectorError("the model answered with a vector that is not finite for a line of this page")
    vectors = vectors[:, :dimension]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return replace(page, line_vectors=np.asarray(vectors / np.where(norms > 0, norms, 1), dtype=np.float32))


def check_vectors(vectors: Vectors, dimension: int | None, normalize: bool) -> Vectors:
    """Return float32, cut to `dimension` and normalised. Raises BadVectorError for one not finite or of length 0."""
    vectors = vectors[:, :dimension]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(vectors).all() or not (norms > 0).all():
        raise BadVectorError("the model answered with a vector that is not finite: this page or query has none")
    return np.ascontiguousarray(vectors / norms if normalize else vectors, dtype=np.float32)
