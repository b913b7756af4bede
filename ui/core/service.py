"""The actions of the page and its API, without any widget: add, search, delete. One instance for a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serving.client import EmbeddingClient, PagePayload
from serving.documents.files import open_file
from serving.documents.images import encode_jpeg
from serving.documents.parser_pool import ParserPool
from serving.embedders.base import Vectors
from serving.embedders.prompts import canonicalise_query
from serving.errors import BadValueError, BusyError, NotReadyError, TooLargeError, UnreadableError
from serving.library.catalogue import FingerprintError
from serving.library.exporting import Export, Progress, export_collection, ignore_progress
from serving.library.importing import import_collection
from serving.library.library import Library
from serving.library.records import ALL_PAGES, TYPES, Collection, CollectionKey, Hit, Selection, StoredPage
from serving.settings import MAX_TOP_K, Settings
from ui.access.ownership import CollectionOwnership
from ui.core.bench_runs import BenchRuns
from ui.core.ingest import Ingestor
from ui.core.job_runner import log_library_errors
from ui.core.picture_reading import PictureReading
from ui.core.sample_loader import SampleLoader
from ui.servers.target import Target, Targets
from ui.servers.text_server import TextServer


@dataclass(frozen=True)
class Question:
    """Words, a picture, or both; or, instead of them, a page of the collection, to find others like it."""

    text: str = ""
    image: Path | None = None
    weight: float = 0.5
    """The share of the picture where words stand beside it: 0 is the words alone, 1 the picture alone."""
    like: str = ""
    """The page's id."""
    minimum: float | None = None
    """Pages with a lower score are counted, not shown."""
    selection: Selection = ALL_PAGES
    """Only these are ranked."""


@dataclass(frozen=True, eq=False)
class ScoredPages:
    """Many questions' scores with every page of a selection. `values` is float32[queries, pages]."""

    queries: list[str]
    pages: list[StoredPage]
    """By file and number."""
    values: Vectors
    timings: dict[str, float]


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The pages that answer one question, best first."""

    hits: list[Hit]
    hidden: list[Hit]
    """Pages among the nearest that did not reach the minimum."""
    below: int
    """How many did not, of all pages that were ranked; 0 where the nearest all do."""
    ranked: int
    """Pages that the question's selection left."""
    query: Vectors
    """float32[n], all numbers that the hits were ranked by"""
    fingerprint: str
    timings: dict[str, float]
    """Milliseconds: embed (with the way to the worker), search, total."""


class Service:
    """The library, the servers and the jobs of a page. Thread-safe."""

    def __init__(self, targets: Targets, library: Library, settings: Settings, *, engines: bool = True) -> None:
        """`engines`: this machine may run engines of its own, to measure them."""
        self.engines = engines
        self.targets = targets
        self.library = library
        self.settings = settings
        self.parsers = ParserPool(settings)
        self.ingestor = Ingestor(targets, library, settings, self.parsers)
        self.samples = SampleLoader(library, settings, self.parsers, self.ingestor)
        self.runs = BenchRuns(settings.data)
        self.reading = PictureReading(library, TextServer(targets, settings))
        self.ownership = CollectionOwnership(library)
        self.exports_folder = settings.data / "exports"
        library.read_only = library.read_only or settings.read_only
        self._exporting = threading.Lock()

    def close(self) -> None:
        self.runs.close()
        self.ingestor.stop()
        self.reading.close()
        self.parsers.close()
        self.ingestor.close()
        self.library.close()

    def search(
        self,
        question: Question,
        collection: CollectionKey,
        top_k: int,
        dimension: int | None = None,
        target: str | None = None,
    ) -> SearchResult:
        """`target` names the server; None is the first. Pages like another one are found without asking a server.

        Raises ServingError; FingerprintError where that server's vectors cannot be compared with the collection's.
        """
        began = time.perf_counter()
        chosen = self.targets.get(target)
        if not 1 <= top_k <= MAX_TOP_K:
            raise BadValueError(f"top_k is 1 to {MAX_TOP_K}", param="top_k")
        check_dimension(chosen, dimension)
        check_question(question)
        if question.like:
            query, fingerprint = self.library.catalogue.read_vector(collection, question.like)
        else:
            chosen.check_fingerprint(self.library, collection)
            query, fingerprint = self.embed_question(chosen.client, question)
        embed = {"embed": milliseconds_since(began)}
        found = self.rank(question, query, fingerprint, collection, top_k, dimension)
        return replace(found, timings={**embed, **found.timings, "total": milliseconds_since(began)})

    def find_first(self, question: Question, collection: CollectionKey, top_k: int) -> list[Hit]:
        """Return the pages with most of a question's words, best first: at once, whatever the servers do.

        None for a question without words. Their scores compare with no others. Raises ServingError.
        """
        if not 1 <= top_k <= MAX_TOP_K:
            raise BadValueError(f"top_k is 1 to {MAX_TOP_K}", param="top_k")
        check_question(question)
        words = question.text.strip()[: self.settings.max_text_chars]
        return self.library.ranking.search_words(collection, words, top_k, question.selection)

    def rank(
        self,
        question: Question,
        query: Vectors,
        fingerprint: str,
        collection: CollectionKey,
        top_k: int,
        dimension: int | None = None,
    ) -> SearchResult:
        """Rank by a question's vector, float32[n], without asking or waking a server. Raises ServingError."""
        began = time.perf_counter()
        ranking, selection = self.library.ranking, question.selection
        passing = ranking.count_pages(collection, selection)
        more = 1 if question.like else 0  # itself, which nobody looks for
        known = query, fingerprint, selection, dimension
        exact = [] if question.image else ranking.search_exact(collection, question.text, *known)
        ranked = ranking.search(collection, query, top_k + more, fingerprint, selection, dimension)
        ranked = [*exact, *leave_out(ranked, exact)]
        others = [hit for hit in ranked if hit.page.id != question.like]
        passing = max(passing - (len(ranked) - len(others)), len(others[:top_k]))
        others = [replace(hit, rank=rank) for rank, hit in enumerate(others[:top_k], 1)]
        others = self.mark_lines(question, collection, others)
        least = -1.0 if question.minimum is None else question.minimum
        hits = [hit for hit in others if hit.score >= least or hit.is_exact]
        hidden = [hit for hit in others if hit.score < least and not hit.is_exact]
        # Each page after the first that is below the minimum is below it too.
        below = max(len(hidden), passing - len(hits)) if hidden else 0
        return SearchResult(hits, hidden, below, passing, query, fingerprint, {"search": milliseconds_since(began)})

    def mark_lines(self, question: Question, collection: CollectionKey, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits with the lines that say most of the question's words, where lines have no vectors."""
        words = question.text.strip()[: self.settings.max_text_chars]
        return self.library.ranking.mark_lines(collection, words, hits)

    def score_pages(
        self,
        queries: Sequence[str],
        collection: CollectionKey,
        selection: Selection = ALL_PAGES,
        dimension: int | None = None,
        target: str | None = None,
    ) -> ScoredPages:
        """Score each question with every page of the selection, embedded in one call. Raises ServingError."""
        began = time.perf_counter()
        chosen = self.targets.get(target)
        check_dimension(chosen, dimension)
        check_question(Question(selection=selection))
        asked = self._check_questions(queries)
        ranking = self.library.ranking
        pages = ranking.count_pages(collection, selection)
        if len(asked) * pages > self.settings.max_matrix_cells:
            raise TooLargeError(
                f"{len(asked)} questions with {pages:,} pages are more than {self.settings.max_matrix_cells:,} scores:"
                " ask fewer at once, or filter by file, type or folder",
                param="queries",
            )
        if not pages:
            return ScoredPages(asked, [], np.empty((len(asked), 0), np.float32), {"total": milliseconds_since(began)})
        chosen.check_fingerprint(self.library, collection)
        answer = chosen.client.embed_queries(asked)
        embed = milliseconds_since(began)
        found, values = ranking.score_pages(collection, answer.vectors, answer.fingerprint, selection, dimension)
        order = sorted(range(len(found)), key=lambda n: (found[n].file, found[n].page))
        total = milliseconds_since(began)
        timings = {"embed": embed, "search": round(total - embed, 2), "total": total}
        return ScoredPages(asked, [found[n] for n in order], values[:, order], timings)

    def _check_questions(self, queries: Sequence[str]) -> list[str]:
        """Return them without empty ones and repetitions, in their order. Raises BadValueError, TooLargeError."""
        asked = list(dict.fromkeys(text for query in queries if (text := " ".join(query.split()))))
        if not asked:
            raise BadValueError("there are no questions: write one per line", param="queries")
        if len(asked) > self.settings.max_questions:
            raise TooLargeError(
                f"{len(asked)} questions are too many: ask at most {self.settings.max_questions} at once",
                param="queries",
            )
        most = self.settings.max_text_chars
        for number, text in enumerate(asked, 1):
            if len(text) > most:
                raise BadValueError(f"question {number} is longer than {most} characters", param="queries")
        return [canonicalise_query(text, "queries", most) for text in asked]

    def embed_question(self, client: EmbeddingClient, question: Question) -> tuple[Vectors, str]:
        """Return the vector of words and image, float32[n], and its fingerprint. Raises ServingError."""
        weighed: list[tuple[float, Vectors]] = []
        fingerprint, image = "", question.image
        share = question.weight if question.text.strip() else 1.0
        if image is None or share < 1:
            text = canonicalise_query(question.text, "query", self.settings.max_text_chars)
            answer = client.embed_queries([text])
            weighed, fingerprint = [(1.0 if image is None else 1 - share, answer.vectors[0])], answer.fingerprint
        if image is not None and share > 0:
            page = open_file(image, self.settings, self.parsers.run).read(0)
            if page.image is None:
                raise UnreadableError("the query image cannot be read", param="image")
            answer = client.embed_pages([PagePayload(encode_jpeg(page.image), page.lines)])
            weighed, fingerprint = [*weighed, (share, answer.vectors[0])], answer.fingerprint
        mean = np.sum([weight * vector for weight, vector in weighed], axis=0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32), fingerprint

    def delete_pages(self, collection: CollectionKey, ids: Sequence[str]) -> list[str]:
        """Delete pages as `Library` does, as the next two methods do; what an upload has shown is no longer true."""
        gone = self.library.delete_pages(collection, ids)
        self.ingestor.forget_ended(collection)
        return gone

    def delete_collection(self, collection: CollectionKey) -> int:
        """Delete a collection; an upload in progress ends, and says why."""
        gone = self.library.delete_collection(collection)
        with log_library_errors():  # what goes on ends by itself: its collection is gone
            self.ingestor.cancel(collection)
        self.ingestor.forget_ended(collection)
        return gone

    def delete_files(self, collection: CollectionKey, files: Sequence[str]) -> list[str]:
        """Delete the pages of files, which are given by their sha256. Returns the pages' ids."""
        return self.delete_pages(collection, self.library.catalogue.list_file_pages(collection, files))

    def create_collection(self, name: str) -> Collection:
        """Raises ServingError."""
        return self.library.create_collection(name, self.ownership.owner_for_new)

    def export_collection(self, collection: CollectionKey, step: Progress = ignore_progress) -> Export:
        """Raises ServingError; BusyError while another one is written: each takes as much of the disk."""
        if not self._exporting.acquire(blocking=False):
            raise BusyError("another collection is being exported: try again in a moment", retry_after=5)
        try:
            return export_collection(self.library, collection, self.exports_folder, self.settings, step)
        finally:
            self._exporting.release()

    def import_collection(
        self, path: Path, name: str = "", target: str | None = None, step: Progress = ignore_progress
    ) -> Collection:
        """Import an exported collection as a new one, which the server `target` can search. Raises ServingError."""
        chosen = self.targets.get(target)

        def check_fingerprint(fingerprint: str) -> None:
            with suppress(NotReadyError):
                here = chosen.fetch_info().fingerprint
                if not self.library.catalogue.are_comparable(fingerprint, here):
                    raise FingerprintError(
                        f"the collection was exported from another embedder ({fingerprint}, here {here}): take the"
                        " server it was made with, or unpack the zip and add its pictures, which embeds them again"
                    )

        owner = self.ownership.owner_for_new
        return import_collection(self.library, path, self.settings, check_fingerprint, name, owner, step)


def leave_out(hits: Sequence[Hit], others: Sequence[Hit]) -> list[Hit]:
    """Return the hits whose pages are not among the others."""
    ids = {hit.page.id for hit in others}
    return [hit for hit in hits if hit.page.id not in ids]


def milliseconds_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def check_dimension(target: Target, dimension: int | None) -> None:
    """Raises BadValueError for a number of dimensions that the server's vectors cannot be cut to."""
    if dimension is None:
        return
    known = target.known_info or target.fetch_info()
    sizes = sorted({*known.dimensions, known.dimension})
    if dimension not in sizes:
        raise BadValueError(
            f"pages are compared in {' or '.join(map(str, sizes))} dimensions; left empty, in all", param="dimension"
        )


def check_question(question: Question) -> None:
    """Raises BadValueError."""
    if unknown := [kind for kind in question.selection.types if kind not in TYPES]:
        raise BadValueError(f"{unknown[0]!r} is no type: there are {', '.join(TYPES)}", param="types")
    if not 0 <= question.weight <= 1:
        raise BadValueError("weight is 0 to 1", param="weight")
    if question.minimum is not None and not -1 <= question.minimum <= 1:
        raise BadValueError("minimum is -1 to 1, as the scores are", param="minimum")
    if question.like and (question.text.strip() or question.image is not None):
        raise BadValueError("like stands alone: leave query and image empty", param="like")
