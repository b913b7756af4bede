"""`python -m bench quality`: whether the embedder finds the right page, by labelled queries of several kinds."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
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
from serving.documents.page import Page
from serving.documents.parser_pool import ParserPool
from serving.http.child_server import ServerProcess
from serving.http.redirects import select_proxy_headers
from serving.library.records import CollectionKey, NewPage
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.library.library import Library

ABOUT = "recall@1, recall@3 and MRR on labelled queries, for each kind of query"
IN_FLIGHT = 4
COLLECTION = "quality"
CORPUS = Path(__file__).parents[2] / "assets" / "samples"


@dataclass(frozen=True)
class LabelledQuery:
    """A query with the page that answers it."""

    query: str
    kind: str
    file: str
    page: int


@dataclass(frozen=True)
class KindRecall:
    """Figures of one kind of query, from 0 to 1."""

    kind: str
    n: int
    recall_at_1: float
    recall_at_3: float
    mrr: float


@dataclass(frozen=True)
class QueryRank:
    """The rank of the right page, 1 the best."""

    label: LabelledQuery
    rank: int


def load_labels(corpus: Path) -> list[LabelledQuery]:
    """Read `queries.json`. Raises ValueError that says what is wrong with it."""
    path = corpus / "queries.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["queries"]
        return [LabelledQuery(str(e["query"]), str(e["kind"]), str(e["file"]), int(e["page"])) for e in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a list of labelled queries: {error!r}") from None


def list_page_files(corpus: Path) -> list[Path]:
    return sorted(path for path in corpus.iterdir() if path.suffix not in (".json", ".md"))


def read_pages(corpus: Path, settings: Settings) -> Iterator[tuple[tuple[str, int], PagePayload]]:
    """Yield file, number and payload of each page as the search page sends it: JPEG, and the text layer if any."""
    with ParserPool(settings) as parsers:
        for path in list_page_files(corpus):
            for number, page in enumerate(open_file(path, settings, parsers.run), 1):
                if isinstance(page, Page) and page.image is not None:
                    yield (path.name, number), PagePayload(encode_jpeg(page.image), page.lines)


def rank_pages(client: EmbeddingClient, corpus: Path, settings: Settings) -> list[QueryRank]:
    """Return the rank of the right page for each query, in a library as the page uses it. Raises ValueError."""
    from serving.library.library import Library  # and usearch with it: who only wants the corpus needs neither

    labels = load_labels(corpus)
    info = client.fetch_info()
    with tempfile.TemporaryDirectory() as folder, closing(Library(Path(folder))) as library:
        collection = library.create_collection(COLLECTION).key
        keys = fill_library(library, collection, client, corpus, settings)
        if missing := {(label.file, label.page) for label in labels} - keys:
            raise ValueError(f"queries.json names pages that are not there: {sorted(missing)}")
        ranks = []
        for label in labels:
            query = client.embed_queries([label.query]).vectors[0]
            hits = library.ranking.search(collection, query, len(keys), info.fingerprint)
            right = next(hit for hit in hits if (hit.page.file, hit.page.page) == (label.file, label.page))
            # A tie counts against us.
            ranks.append(QueryRank(label, sum(hit.score >= right.score for hit in hits)))
    return ranks


def fill_library(
    library: Library, collection: CollectionKey, client: EmbeddingClient, corpus: Path, settings: Settings
) -> set[tuple[str, int]]:
    """Add all pages of the corpus, and return their files and numbers. Raises ServingError."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        embedding = [
            (key, pool.submit(client.embed_pages, [payload], explain=True))
            for key, payload in read_pages(corpus, settings)
        ]
        for (file, number), future in embedding:
            answer = future.result()
            text = answer.pages[0]
            page = NewPage(file, file, number, 1, 1, 1, b"", b"", answer.vectors[0], text.lines, text.vectors)
            library.add_page(collection, page, fingerprint=answer.fingerprint, model=answer.model)
    return {key for key, _ in embedding}


def summarise_kinds(ranks: Sequence[QueryRank]) -> list[KindRecall]:
    """Return the figures of each kind of query, then of all."""
    table = []
    for kind in [*dict.fromkeys(one.label.kind for one in ranks), "all"]:
        at = np.asarray([one.rank for one in ranks if kind in ("all", one.label.kind)])
        means = (float(values.mean()) for values in (at == 1, at <= 3, 1 / at))
        table.append(KindRecall(kind, len(at), *means))
    return table


def render_table(rows: Sequence[KindRecall]) -> str:
    lines = [f"{'kind':<12}{'n':>5}{'recall@1':>10}{'recall@3':>10}{'MRR':>8}"]
    lines += [f"{r.kind:<12}{r.n:>5}{r.recall_at_1:>10.3f}{r.recall_at_3:>10.3f}{r.mrr:>8.3f}" for r in rows]
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
    parser.add_argument("--misses", action="store_true", help="also print the queries whose page is not first")
    add_worker(parser)
    record.add_out(parser, "quality-builtin.json")


def main(options: argparse.Namespace) -> int:
    def measure(_: record.Keep) -> dict[str, Any]:
        with open_worker(options.url) as client:
            info, ranks = client.fetch_info(), rank_pages(client, options.corpus, Settings())
        table = summarise_kinds(ranks)
        print(render_table(table))
        for miss in (one for one in ranks if options.misses and one.rank > 1):
            print(f"rank {miss.rank:>3}  {miss.label.kind:<11} {miss.label.query}  ({miss.label.file})")
        samples = [{**asdict(one.label), "rank": one.rank} for one in ranks]
        figures = {"table": [asdict(row) for row in table], "samples": samples}
        return {"model": info.name, "fingerprint": info.fingerprint, **figures}

    return record.measure_and_save(options.out, "quality", measure)
