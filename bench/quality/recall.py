"""`python -m bench quality`: whether the right page is found and its answering line marked, by labelled queries."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results import record
from serving.client import EmbeddingClient, PagePayload
from serving.documents.files import open_file
from serving.documents.images import encode_jpeg
from serving.documents.page import Page, keep_letters
from serving.documents.parser_pool import ParserPool
from serving.http.child_server import ServerProcess
from serving.http.redirects import select_proxy_headers
from serving.library.records import CollectionKey, Hit, NewPage
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.library.library import Library

ABOUT = "recall@1, recall@3 and MRR of pages, and hit@1 of lines, on labelled queries of each kind"
IN_FLIGHT = 4
COLLECTION = "quality"
WHOLE_LINE = 8
"""Letters and digits of a marked line that may be a part of a label: a shorter one could be anything."""
CORPUS = Path(__file__).parents[2] / "assets" / "samples"


@dataclass(frozen=True)
class LabelledQuery:
    """A query with the page that answers it, and pieces of its lines that do: one is enough; none are not counted."""

    query: str
    kind: str
    file: str
    page: int
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class KindRecall:
    """Figures of one kind of query, from 0 to 1. `line_hit_at_1` is of the `lines` queries that have labelled lines."""

    kind: str
    n: int
    recall_at_1: float
    recall_at_3: float
    mrr: float
    lines: int = 0
    line_hit_at_1: float | None = None


@dataclass(frozen=True)
class QueryRank:
    """The rank of the right page, 1 the best, and the text of the line that is marked on it."""

    label: LabelledQuery
    rank: int
    marked: str | None = None

    @property
    def line_is_right(self) -> bool | None:
        """Return whether the marked line answers; None if no line is labelled."""
        return match_line(self.marked or "", self.label.lines) if self.label.lines else None


def match_line(marked: str, pieces: Sequence[str]) -> bool:
    """Return whether the line has one of these pieces or is part of one, by its letters and digits alone."""
    line = keep_letters(marked)
    return any(
        piece in line or (len(line) >= WHOLE_LINE and line in piece) for piece in map(keep_letters, pieces) if piece
    )


@dataclass(frozen=True)
class RankedQueries:
    """The labelled queries in their order, by the vectors of pages and lines, and by the words of the pages alone."""

    by_vectors: list[QueryRank]
    by_words: list[QueryRank]


def load_labels(corpus: Path) -> list[LabelledQuery]:
    """Read `queries.json`. Raises ValueError that says what is wrong with it."""
    path = corpus / "queries.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["queries"]
        return [
            LabelledQuery(
                str(e["query"]), str(e["kind"]), str(e["file"]), int(e["page"]), read_pieces(e.get("lines", []))
            )
            for e in entries
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a list of labelled queries: {error!r}") from None


def read_pieces(value: object) -> tuple[str, ...]:
    """Return the pieces of a label's lines. Raises ValueError unless each has letters or digits to find it by."""
    if not isinstance(value, list) or not all(isinstance(piece, str) and keep_letters(piece) for piece in value):
        raise ValueError(f"lines: {value!r}")
    return tuple(value)


def list_page_files(corpus: Path) -> list[Path]:
    return sorted(path for path in corpus.iterdir() if path.suffix not in (".json", ".md"))


def read_pages(corpus: Path, settings: Settings) -> Iterator[tuple[tuple[str, int], PagePayload]]:
    """Yield file, number and payload of each page as the search page sends it: JPEG, and the text layer if any."""
    with ParserPool(settings) as parsers:
        for path in list_page_files(corpus):
            for number, page in enumerate(open_file(path, settings, parsers.run), 1):
                if isinstance(page, Page) and page.image is not None:
                    yield (path.name, number), PagePayload(encode_jpeg(page.image), page.lines)


def rank_pages(client: EmbeddingClient, corpus: Path, settings: Settings) -> RankedQueries:
    """Return the right page's rank and marked line for each query, by a library as the page uses it.

    Raises ValueError.
    """
    from serving.library.library import Library  # and usearch with it: who only wants the corpus needs neither

    labels = load_labels(corpus)
    info = client.fetch_info()
    with tempfile.TemporaryDirectory() as folder, closing(Library(Path(folder))) as library:
        collection = library.create_collection(COLLECTION).key
        keys = fill_library(library, collection, client, corpus, settings)
        if missing := {(label.file, label.page) for label in labels} - keys:
            raise ValueError(f"queries.json names pages that are not there: {sorted(missing)}")
        index_words(library)
        ranked = RankedQueries([], [])
        for label in labels:
            query = client.embed_queries([label.query]).vectors[0]
            hits = library.ranking.search(collection, query, len(keys), info.fingerprint)
            ranked.by_vectors.append(find_right_page(label, hits, len(keys)))
            hits = library.ranking.search_words(collection, label.query, len(keys))
            ranked.by_words.append(find_right_page(label, hits, len(keys)))
    return ranked


def find_right_page(label: LabelledQuery, hits: Sequence[Hit], pages: int) -> QueryRank:
    """Return its rank; that of the last of the `pages` where it was not found."""
    right = next((hit for hit in hits if (hit.page.file, hit.page.page) == (label.file, label.page)), None)
    if right is None:
        return QueryRank(label, pages)
    # A tie counts against us.
    rank = sum(hit.score >= right.score for hit in hits)
    return QueryRank(label, rank, None if right.line is None else right.line.text)


def index_words(library: Library) -> None:
    """Return when the words of all pages are indexed."""
    library.begin_indexing()
    while library.words.count_missing():
        time.sleep(0.05)


def fill_library(
    library: Library, collection: CollectionKey, client: EmbeddingClient, corpus: Path, settings: Settings
) -> set[tuple[str, int]]:
    """Add all pages of the corpus, and return their files and numbers. Raises ServingError."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        embedding = [
            (key, payload.lines, pool.submit(client.embed_pages, [payload], explain=True))
            for key, payload in read_pages(corpus, settings)
        ]
        for (file, number), layer, future in embedding:
            answer = future.result()
            text = answer.pages[0]
            lines = text.or_layer(layer)
            page = NewPage(file, file, number, 1, 1, 1, b"", b"", answer.vectors[0], lines, text.vectors)
            library.add_page(collection, page, fingerprint=answer.fingerprint, model=answer.model)
    return {key for key, _, _ in embedding}


def summarise_kinds(ranks: Sequence[QueryRank]) -> list[KindRecall]:
    """Return the figures of each kind of query, then of all."""
    table = []
    for kind in [*dict.fromkeys(one.label.kind for one in ranks), "all"]:
        chosen = [one for one in ranks if kind in ("all", one.label.kind)]
        at = np.asarray([one.rank for one in chosen])
        first, third, mrr = (float(values.mean()) for values in (at == 1, at <= 3, 1 / at))
        right = [one.line_is_right for one in chosen if one.line_is_right is not None]
        table.append(
            KindRecall(kind, len(at), first, third, mrr, len(right), sum(right) / len(right) if right else None)
        )
    return table


def render_table(rows: Sequence[KindRecall]) -> str:
    """Return the figures as aligned text; a dash where no line is labelled."""
    lines = [f"{'kind':<12}{'n':>5}{'recall@1':>10}{'recall@3':>10}{'MRR':>8}{'lines':>7}{'hit@1':>7}"]
    for row in rows:
        pages = f"{row.kind:<12}{row.n:>5}{row.recall_at_1:>10.3f}{row.recall_at_3:>10.3f}{row.mrr:>8.3f}"
        hit = "-" if row.line_hit_at_1 is None else f"{row.line_hit_at_1:.3f}"
        lines.append(f"{pages}{row.lines:>7}{hit:>7}")
    return "\n".join(lines)


def add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="folder of pages with a queries.json")


def add_worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="a running worker; its key comes from DORMOUSE_WORKER_KEY (default: start one)")


@contextmanager
def open_worker(url: str | None) -> Iterator[EmbeddingClient]:
    """Return a client of the named worker, or of one that lives as long as the block. Raises ProcessFailed."""
    if url:
        key = os.environ.get("DORMOUSE_WORKER_KEY", "")
        yield EmbeddingClient(url, key, headers=select_proxy_headers(url, os.environ))
        return
    with tempfile.TemporaryDirectory() as data, ServerProcess("serving", ["--data", data]) as process:
        yield EmbeddingClient(process.wait())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    parser.add_argument("--misses", action="store_true", help="also print each query whose page or line is wrong")
    add_worker(parser)
    record.add_out(parser, "quality-builtin.json")


def main(options: argparse.Namespace) -> int:
    def measure(_: record.Keep) -> dict[str, Any]:
        with open_worker(options.url) as client:
            info, ranked = client.fetch_info(), rank_pages(client, options.corpus, Settings())
        figures = describe_ranks(ranked.by_vectors, misses=options.misses)
        print("by the words of the pages alone, as first results are:")
        words = describe_ranks(ranked.by_words, misses=options.misses)
        return {"model": info.name, "fingerprint": info.fingerprint, **figures, "words": words}

    return record.measure_and_save(options.out, "quality", measure)


def describe_ranks(ranks: Sequence[QueryRank], *, misses: bool) -> dict[str, Any]:
    """Print the figures of a ranking, and return them with their samples. `misses`: print what is wrong as well."""
    table = summarise_kinds(ranks)
    print(render_table(table))
    for one in ranks if misses else ():
        if one.rank > 1 or one.line_is_right is False:
            print(f"rank {one.rank:>3}  {one.label.kind:<11} {one.label.query}  ({one.label.file}: {one.marked})")
    samples = [
        {**asdict(one.label), "rank": one.rank, "marked": one.marked, "line_is_right": one.line_is_right}
        for one in ranks
    ]
    return {"table": [asdict(row) for row in table], "samples": samples}
