"""What an embedder is: model and preprocessing, pages or queries in, vectors out.

An embedder knows nothing of HTTP, queues or snapshots. Its methods are called from worker threads: `prepare` from many
at once, `embed_pages` from at most `lanes.page_workers`, `embed_queries` from at most `lanes.query_workers`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from serving.errors import BadValueError
from serving.pages import Line, Page
from serving.settings import Settings

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PageResult:
    """`vector` is float32[dimension], L2-normalised; `lines` is the text that was read, None if none was looked for.

    `line_vectors` is float32[len(lines), dimension] where it was asked for and the embedder compares lines; a line that
    can answer nothing (a price alone) has zeros.
    """

    vector: Vectors
    lines: tuple[Line, ...] | None = None
    line_vectors: Vectors | None = None


@dataclass(frozen=True, slots=True)
class Lanes:
    """How much an embedder wants at once. Queries have a lane of their own, so none waits behind a bulk ingest."""

    page_batch: int = 1
    page_workers: int = 1
    query_batch: int = 16
    query_workers: int = 1
    query_letters: int = 2_000
    """Of all queries of a batch together: a long one does not hold up many short ones. One alone may have more."""
    page_wait_s: float = 0.0
    """How long a batch that is not full waits for more. The first request after a quiet time pays it."""
    query_wait_s: float = 0.0


class Embedder(Protocol):
    name: str
    """What callers put into `model`."""
    title: str
    """One line for people: what it is, in the page and in `GET /`."""
    dimension: int
    dimensions: tuple[int, ...]
    """Sizes a vector may be cut to (Matryoshka), the full one included."""
    reads_text: bool
    """True if a page may be its text alone, and if lines have vectors of their own."""
    fingerprint: str
    """Model, revision and preprocessing: vectors of different fingerprints never meet in one collection."""
    lanes: Lanes
    device: Literal["cpu", "cuda"]
    """Where its model runs. The same inputs give the same bits again on a CPU, nearly the same on a GPU."""
    backends: tuple[str, ...]
    """The snapshot backends (`serving.snapshots.NAMES`) that can save a process holding this embedder."""

    # One on a GPU that `wake`s from files says so; others need neither.
    # weight_files: tuple[Path, ...]   what wake reads, part of a snapshot's identity
    # waking_bytes: int                GPU memory that wake takes
    # copy_ms: float                   of the last wake: the weights' way to the GPU
    # compiled: int                    pieces of code this process has compiled, not found in a cache

    def load(self) -> None: ...

    def warm_up(self) -> None: ...

    def sleep(self) -> None:
        """Gives its memory back; `wake` undoes it."""

    def wake(self) -> None: ...

    def close(self) -> None:
        """Ends the processes it has beside this one. The worker calls it last."""

    def prepare(self, page: Page) -> Page:
        """What can be done to one page without the model, such as resizing: runs beside others, on several cores."""
        ...

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]: ...

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        """float32[len(queries), dimension], L2-normalised."""
        ...

    def probe(self) -> Vectors:
        """Vectors of fixed inputs, compared before a snapshot and after each restore."""
        ...


NAMES = {
    "builtin": "serving.embedders.builtin:Builtin",
    "bigemma3": "serving.embedders.bigemma3:BiGemma3Embedder",
    "vllm": "serving.embedders.vllm:VllmEmbedder",
}
"""Ours. Any other name is `package.module:Class`, an Embedder of your own that takes the settings."""


def of(name: str) -> Callable[[Settings], Embedder]:
    """The class of that name. Raises BadValueError."""
    module, _, attribute = NAMES.get(name, name).partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(NAMES)
        raise BadValueError(f"there is no embedder {name!r}: {known}, or package.module:Class ({error})") from None
    return cast(Callable[[Settings], Embedder], found)
