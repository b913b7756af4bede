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
from serving.records import CollectionKey, NewPage
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.library import Library

IN_FLIGHT = 4
COLLECTION = "quality"
CORPUS = Path(__file__).parent.parent / "assets" / "samples"


@dataclass(frozen=True)
class Label:
    query: str
    kind: str
    file: str
    page: int


@dataclass(frozen=True)
class Row:
    kind: str
    n: int
    recall_at_1: float
    recall_at_3: float
    mrr: float


@dataclass(frozen=True)
class Outcome:
    label: Label
    rank: int


def labels(corpus: Path) -> list[Label]:
    """From `queries.json`. Raises ValueError that says what is wrong with it."""
    path = corpus / "queries.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["queries"]
        return [Label(str(e["query"]), str(e["kind"]), str(e["file"]), int(e["page"])) for e in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a list of labelled queries: {error!r}") from None


def page_files(corpus: Path) -> list[Path]:
    return sorted(path for path in corpus.iterdir() if path.suffix not in (".json", ".md"))


def pages(corpus: Path, limits: Settings) -> Iterator[tuple[tuple[str, int], PagePayload]]:
    """Every page as the search page sends it: canonical JPEG, and the text layer where there is one."""
    for path in page_files(corpus):
        for number, page in enumerate(open_file(path, limits), 1):
            if isinstance(page, Page) and page.image is not None:
                yield (path.name, number), PagePayload(encode_jpeg(page.image), page.lines)


def ranks(client: EmbeddingClient, corpus: Path, limits: Settings) -> list[Outcome]:
    """The rank of the right page for each query, 1 the best, through a library as the page uses it.

    Raises ValueError for a label without a page.
    """
    from serving.library import Library  # and usearch with it: who only wants the corpus needs neither

    wanted = labels(corpus)
    info = client.info()
    with tempfile.TemporaryDirectory() as folder, closing(Library(Path(folder))) as library:
        collection = library.create(COLLECTION).key
        keys = fill(library, collection, client, corpus, limits)
        missing = {(label.file, label.page) for label in wanted} - keys
        if missing:
            raise ValueError(f"queries.json names pages that are not there: {sorted(missing)}")
        outcomes = []
        for label in wanted:
            query = client.embed_queries([label.query]).vectors[0]
            hits = library.ranking.search(collection, query, len(keys), info.fingerprint)
            right = next(hit for hit in hits if (hit.page.file, hit.page.page) == (label.file, label.page))
            # A tie counts against us.
            outcomes.append(Outcome(label, sum(hit.score >= right.score for hit in hits)))
    return outcomes


def fill(
    library: Library, collection: CollectionKey, client: EmbeddingClient, corpus: Path, limits: Settings
) -> set[tuple[str, int]]:
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        embedding = [
            (key, pool.submit(client.embed_pages, [payload], explain=True)) for key, payload in pages(corpus, limits)
        ]
        for (file, number), future in embedding:
            answer = future.result()
            text = answer.pages[0]
            page = NewPage(file, file, number, 1, 1, 1, b"", b"", answer.vectors[0], text.lines, text.vectors)
            library.add(collection, page, fingerprint=answer.fingerprint, model=answer.model)
    return {key for key, _ in embedding}


def table(outcomes: Sequence[Outcome]) -> list[Row]:
    kinds = [*dict.fromkeys(outcome.label.kind for outcome in outcomes), "all"]
    return [row(kind, [o.rank for o in outcomes if kind in ("all", o.label.kind)]) for kind in kinds]


def row(kind: str, found: Sequence[int]) -> Row:
    at = np.asarray(found)
    return Row(kind, len(at), float((at == 1).mean()), float((at <= 3).mean()), float((1 / at).mean()))


def text(rows: Sequence[Row]) -> str:
    lines = [f"{'kind':<12}{'n':>5}{'recall@1':>10}{'recall@3':>10}{'MRR':>8}"]
    lines += [f"{r.kind:<12}{r.n:>5}{r.recall_at_1:>10.3f}{r.recall_at_3:>10.3f}{r.mrr:>8.3f}" for r in rows]
    return "\n".join(lines)


def result(client: EmbeddingClient, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    info = client.info()
    return {
        "model": info.name,
        "fingerprint": info.fingerprint,
        "table": [asdict(row) for row in table(outcomes)],
        "samples": [{**asdict(outcome.label), "rank": outcome.rank} for outcome in outcomes],
    }
