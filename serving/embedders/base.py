"""The interface of an embedder: model and preprocessing, pages or queries in, vectors out.

An embedder knows nothing of HTTP, queues or snapshots. Its methods are called from worker threads: `prepare` from many
at once, `embed_pages` from at most `lanes.page_workers`, `embed_queries` from at most `lanes.query_workers`.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from serving.documents.page import Line, Page
from serving.errors import BadValueError
from serving.settings import Settings

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class PageResult:
    """The vector of a page: float32[dimension], L2-normalised; and the lines of text that were read on it.

    `lines` is None if the embedder reads no text. `line_vectors` is float32[len(lines), dimension] if the caller asked
    for them and the embedder compares lines; a line that can answer nothing (a price alone) has zeros.
    """

    vector: Vectors
    lines: tuple[Line, ...] | None = None
    line_vectors: Vectors | None = None


@dataclass(frozen=True, slots=True)
class Lanes:
    """The batch sizes that suit an embedder. Queries have a lane of their own, so none waits behind a bulk ingest."""

    page_batch: int = 1
    page_workers: int = 1
    query_batch: int = 16
    query_workers: int = 1
    query_letters: int = 2_000
    """Limit for all queries of a batch together: a long one does not hold up many short ones. One alone may have
    more."""
    page_wait_s: float = 0.0
    """How long a batch that is not full waits for more. The first request after a quiet time pays it."""
    query_wait_s: float = 0.0


class Embedder(Protocol):
    """A model behind this interface."""

    name: str
    """What callers put into `model`."""
    title: str
    """One line for people: what it is, in the page and in `GET /`."""
    dimension: int
    dimensions: tuple[int, ...]
    """Sizes a vector may be cut to (Matryoshka), the full one included."""
    reads_text: bool
    """True if a page may be its text alone, and if lines have vectors of their own."""
    scripts: tuple[str, ...] = ()
    """Scripts of writing that it reads off pictures; empty for a model that looks at the picture itself."""
    fingerprint: str
    """Model, revision and preprocessing: vectors of different fingerprints never meet in one collection."""
    lanes: Lanes
    device: Literal["cpu", "cuda"]
    """Where its model runs. The same inputs give the same bits again on a CPU, nearly the same on a GPU."""
    backends: tuple[str, ...]
    """The snapshot backends (`serving.snapshots.base.BACKEND_NAMES`) that can save a process holding this embedder."""

    def load(self) -> None: ...

    def warm_up(self) -> None: ...

    def sleep(self) -> None:
        """Give the model's memory back; `wake` undoes it."""

    def wake(self) -> None: ...

    def close(self) -> None:
        """End the processes that it started beside this one. The worker calls it last."""
        return

    def prepare(self, page: Page) -> Page:
        """Return the page after all work that needs no model, such as resizing: runs on several cores at once."""
        return page

    @abstractmethod
    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]: ...

    @abstractmethod
    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        """Return float32[len(queries), dimension], L2-normalised."""
        ...

    def probe(self) -> Vectors:
        """Return vectors of fixed inputs, compared before a snapshot and after each restore."""
        ...


@runtime_checkable
class GpuEmbedder(Embedder, Protocol):
    """An embedder whose GPU memory is given back by `sleep` and filled again by `wake`."""

    weight_files: tuple[Path, ...]
    """Files that `wake` reads; they are part of a snapshot's identity. Empty if it reads none."""
    waking_bytes: int
    """GPU memory that `wake` takes."""
    copy_ms: float
    """Milliseconds of the last `wake` in which the weights were copied to the GPU."""

    @property
    def compiled(self) -> int:
        """Pieces of code that this process has compiled itself instead of finding them in a cache."""
        ...


EMBEDDERS = {
    "builtin": "serving.embedders.builtin.embedder:BuiltinEmbedder",
    "bigemma3": "serving.embedders.bigemma3.huggingface:BiGemma3Embedder",
    "vllm": "serving.embedders.bigemma3.vllm:VllmEmbedder",
}
"""The embedders that come with Dormouse. Any other name is `package.module:Class`, an Embedder of your own that takes
the settings (a worker knows those of `settings.LOADED_WITH`)."""


def find_embedder_class(name: str) -> Callable[[Settings], Embedder]:
    """Return the class of that name; it takes the settings. Raises BadValueError."""
    module, _, attribute = EMBEDDERS.get(name, name).partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(EMBEDDERS)
        raise BadValueError(f"there is no embedder {name!r}: {known}, or package.module:Class ({error})") from None
    return cast(Callable[[Settings], Embedder], found)
