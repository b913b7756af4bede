"""Does the embedder find the right page? Recall@1, recall@3 and MRR on labelled queries, per kind of query."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.client import EmbeddingClient, PagePayload
from serving.pages import Page, encode_jpeg, open_file
from serving.records import NewPage
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.library import Library

IN_FLIGHT = 4
COLLECTION = "quality"
CORPUS = Path(__file__).parent.parent / "assets" / "samples"


@dataclass(frozen=True)
class LabelledQuery:
    query: str
    kind: str
    file: str
    page: int


@dataclass(frozen=True)
class KindRecall:
    kind: str
    n: int
    recall_at_1: float
    recall_at_3: float
    mrr: float


@dataclass(frozen=True)
class QueryRank:
    label: LabelledQuery
    rank: int


def load_labels(corpus: Path) -> list[LabelledQuery]:
    """From `queries.json`. Raises ValueError that says what is wrong with it."""
    path = corpus / "queries.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["queries"]
        return [LabelledQuery(str(e["query"]), str(e["kind"]), str(e["file"]), int(e["page"])) for e in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a list of labelled queries: {error!r}") from None


def list_page_files(corpus: Path) -> list[Path]:
    return sorted(path for path in corpus.iterdir() if path.suffix not in (".json", ".md"))


def read_pages(corpus: Path, limits: Settings) -> Iterator[tuple[tuple[str, int], PagePayload]]:
    """Every page as the search page sends it: canonical JPEG, and the text layer where there is one."""
    for path in list_page_files(corpus):
        for number, page in enumerate(open_file(path, limits), 1):
            if isinstance(page, Page) and page.image is not None:
                yield (path.name, number), PagePayload(encode_jpeg(page.image), page.lines)


def rank_pages(client: EmbeddingClient, corpus: Path, limits: Settings) -> list[QueryRank]:
    """The rank of the right page for each query, 1 the best, through a library as the page uses it.

    Raises ValueError for a label without a page.
    """
    from serving.library import Library  # and usearch with it: who only wants the corpus needs neither

    wanted = load_labels(corpus)
    info = client.info()
    with tempfile.TemporaryDirectory() as folder, closing(Library(Path(folder))) as library:
        keys = fill_library(library, client, corpus, limits)
        missing = {(label.file, label.page) for label in wanted} - keys
        if missing:
            raise ValueError(f"queries.json names pages that are not there: {sorted(missing)}")
        outcomes = []
        for label in wanted:
            query = client.embed_queries([label.query]).vectors[0]
            hits = library.search(COLLECTION, query, len(keys), info.fingerprint)
            right = next(hit for hit in hits if (hit.page.file, hit.page.page) == (label.file, label.page))
            # A tie counts against us.
            outcomes.append(QueryRank(label, sum(hit.score >= right.score for hit in hits)))
    return outcomes


def fill_library(library: Library, client: EmbeddingClient, corpus: Path, limits: Settings) -> set[tuple[str, int]]:
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        embedding = [
            (key, pool.submit(client.embed_pages, [payload], explain=True))
            for key, payload in read_pages(corpus, limits)
        ]
        for (file, number), future in embedding:
            answer = future.result()
            text = answer.pages[0]
            page = NewPage(file, file, number, 1, 1, 1, b"", b"", answer.vectors[0], text.lines, text.vectors)
            library.add(COLLECTION, page, fingerprint=answer.fingerprint, model=answer.model)
    return {key for key, _ in embedding}


def summarise_kinds(outcomes: Sequence[QueryRank]) -> list[KindRecall]:
    kinds = [*dict.fromkeys(outcome.label.kind for outcome in outcomes), "all"]
    return [summarise_ranks(kind, [o.rank for o in outcomes if kind in ("all", o.label.kind)]) for kind in kinds]


def summarise_ranks(kind: str, found: Sequence[int]) -> KindRecall:
    at = np.asarray(found)
    return KindRecall(kind, len(at), float((at == 1).mean()), float((at <= 3).mean()), float((1 / at).mean()))


def render_table(rows: Sequence[KindRecall]) -> str:
    lines = [f"{'kind':<12}{'n':>5}{'recall@1':>10}{'recall@3':>10}{'MRR':>8}"]
    lines += [f"{r.kind:<12}{r.n:>5}{r.recall_at_1:>10.3f}{r.recall_at_3:>10.3f}{r.mrr:>8.3f}" for r in rows]
    return "\n".join(lines)


def build_result(client: EmbeddingClient, outcomes: Sequence[QueryRank]) -> dict[str, Any]:
    info = client.info()
    return {
        "model": info.name,
        "fingerprint": info.fingerprint,
        "table": [asdict(row) for row in summarise_kinds(outcomes)],
        "samples": [{**asdict(outcome.label), "rank": outcome.rank} for outcome in outcomes],
    }
