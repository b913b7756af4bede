"""`python -m bench parity`: whether two servers compute the same vectors, by the pages and queries of a corpus.

Cosines decide. Beside them stands rank agreement: for each query, each server ranks the pages by its own vectors; the
result has the share of queries for which both put the same page first, and how much of the first three is the same, in
any order, on average. Ranks further down swap among pages that answer nothing, so they are not counted.

Weights that cannot tell pages apart (random ones, for example) agree whatever is wrong in between. So the cosines of
different inputs on one server are measured too, and where those are close to 1, nothing counts as shown.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.options import float_between
from bench.quality import recall
from bench.results import record
from bench.results.record import Say
from serving.client import Answer, EmbeddingClient, ModelInfo, PagePayload
from serving.embedders.base import Vectors
from serving.http.redirects import select_proxy_headers
from serving.library import fingerprints
from serving.library.fingerprints import FolderProofs, Proof, Spread, Threshold
from serving.library.shared_proofs import SharedProofs
from serving.settings import Settings

ABOUT = "whether two servers compute the same vectors; if so, their pages may share a collection"
IN_FLIGHT = 4
DEADLINE_S = 900.0
"""Time for one answer: a first start of a large model takes minutes."""
UNREACHABLE_S = 30.0
SAY_S = 1.0
BLURRED = 0.9
"""Median cosine of different inputs from which weights cannot tell them apart. The built-in embedder has 0.2 to 0.3 on
the sample pages."""
FIRST = 3
KINDS = ("pages", "queries")
NOTHING_SHOWN = "these weights cannot tell pages apart, this proves nothing"


@dataclass(frozen=True, eq=False)
class EmbeddedCorpus:
    """One server's answers. `pages`, `queries` and `lines` are float32[n, dimension], in the order of the corpus.

    `lines` are those of all pages together, for servers that compare lines; `texts` are their words.
    """

    info: ModelInfo
    pages: Vectors
    queries: Vectors
    lines: Vectors
    texts: tuple[str, ...]
    seconds: float


def open_client(url: str, key: str) -> EmbeddingClient:
    """Return a client that waits for a first start."""
    return EmbeddingClient(url, key, DEADLINE_S, UNREACHABLE_S, headers=select_proxy_headers(url, os.environ))


def embed_corpus(
    server: EmbeddingClient, pages: Sequence[PagePayload], queries: Sequence[str], say: Say
) -> EmbeddedCorpus:
    """Return one server's vectors. Raises ServingError, and ValueError for a server that changed meanwhile."""
    info = server.fetch_info()
    began = time.perf_counter()
    calls: list[Callable[[], Answer]] = [
        *(partial(server.embed_pages, [page], explain=True) for page in pages),
        *(partial(server.embed_queries, [query]) for query in queries),
    ]
    answers = gather_answers(calls, lambda done: say(f"{info.title}: {done} of {len(calls)}"))
    if {answer.fingerprint for answer in answers} != {info.fingerprint}:
        raise ValueError(f"{server.url} became another server meanwhile: its fingerprint changed")
    vectors = np.concatenate([answer.vectors for answer in answers])
    read = [text for answer in answers for text in answer.pages if text.lines is not None and text.vectors is not None]
    lines = [text.vectors for text in read if text.vectors is not None]
    return EmbeddedCorpus(
        info,
        vectors[: len(pages)],
        vectors[len(pages) :],
        np.concatenate(lines) if lines else np.empty((0, info.dimension), np.float32),
        tuple(line.text for text in read for line in text.lines or ()),
        time.perf_counter() - began,
    )


def gather_answers(calls: Sequence[Callable[[], Answer]], done: Callable[[int], None]) -> list[Answer]:
    """Return the answers in order, a few calls at a time. Raises the first failure at once."""
    answers: list[Answer] = []
    pool = ThreadPoolExecutor(IN_FLIGHT)
    try:
        for answer in pool.map(lambda call: call(), calls):
            answers.append(answer)
            done(len(answers))
        return answers
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def make_progress() -> Say:
    """Return what prints to stderr, once in `SAY_S` at most, and nothing before."""
    printed = time.monotonic()

    def say(text: str) -> None:
        nonlocal printed
        if (now := time.monotonic()) - printed >= SAY_S:
            printed = now
            print(text, file=sys.stderr, flush=True)

    return say


def embed_on_both(
    servers: Sequence[EmbeddingClient], corpus: Path, settings: Settings, say: Say
) -> tuple[EmbeddedCorpus, EmbeddedCorpus]:
    """Embed the corpus on one server after the other: they may share a GPU. Raises ServingError, ValueError."""
    queries = list(dict.fromkeys(label.query for label in recall.load_labels(corpus)))
    pages = [payload for _, payload in recall.read_pages(corpus, settings)]
    if min(len(pages), len(queries)) < 2:
        raise ValueError(f"{corpus} has {len(pages)} pages and {len(queries)} queries: two of each are the least")
    sizes = {server.fetch_info().dimension for server in servers}
    if len(sizes) > 1:
        raise ValueError(f"vectors of {' and '.join(map(str, sorted(sizes)))} numbers cannot be compared")
    one, other = (embed_corpus(server, pages, queries, say) for server in servers)
    return one, other


def compute_cosines(one: Vectors, other: Vectors) -> NDArray[np.float64]:
    """Return float64[n], the cosine of each pair of rows. Two rows of zeros (lines that can answer nothing) agree."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: NDArray[np.float64] = (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)
    cosines[~a.any(axis=1) & ~b.any(axis=1)] = 1.0
    return cosines.clip(-1.0, 1.0)


def measure_separation(vectors: Vectors) -> dict[str, float]:
    """Return median and largest cosine of two different rows."""
    rows = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    return {"median": float(np.median(cosines)), "max": float(cosines.max())}


def compare_ranks(a: EmbeddedCorpus, b: EmbeddedCorpus) -> dict[str, float]:
    """Return from 0 to 1: `first`, queries with the same best page; `first_three`, pages in the best three of both."""
    one, other = (np.argsort(-(server.queries @ server.pages.T), axis=1, kind="stable") for server in (a, b))
    count = min(FIRST, one.shape[1])
    shared = [len({*x[:count]} & {*y[:count]}) / count for x, y in zip(one, other, strict=True)]
    return {"first": float((one[:, 0] == other[:, 0]).mean()), "first_three": float(np.mean(shared))}


def compare_vectors(a: EmbeddedCorpus, b: EmbeddedCorpus, threshold: Threshold) -> dict[str, Any]:
    """Return the result file's content.

    `equal`: all cosines reach the threshold. `blurred`: that proves nothing, because different inputs have nearly the
    same vector.
    """
    cosines = {"pages": compute_cosines(a.pages, b.pages), "queries": compute_cosines(a.queries, b.queries)}
    samples = dict(cosines)
    least = {"pages": threshold.pages, "queries": threshold.queries, "lines": threshold.pages}
    same_lines = a.texts == b.texts and a.lines.shape == b.lines.shape
    if same_lines and a.texts:
        cosines["lines"] = compute_cosines(a.lines, b.lines)
    equal = same_lines and all(bool(values.min() >= least[kind]) for kind, values in cosines.items())
    spreads: dict[str, Any] = {
        kind: Spread(n=len(values), min=float(values.min()), median=float(np.median(values))).model_dump()
        for kind, values in cosines.items()
    }
    servers = {"a": describe_server(a), "b": describe_server(b)}
    blurred = any(server["apart"][kind]["median"] >= BLURRED for server in servers.values() for kind in KINDS)
    return {
        **servers,
        **spreads,
        **({} if same_lines else {"lines": None}),
        "ranks": compare_ranks(a, b),
        "threshold": threshold.model_dump(),
        "equal": equal,
        "blurred": blurred,
        "samples": samples,
    }


def describe_server(server: EmbeddedCorpus) -> dict[str, Any]:
    info = server.info
    return {
        "model": info.name,
        "title": info.title,
        "dimension": info.dimension,
        "fingerprint": info.fingerprint,
        "seconds": round(server.seconds, 3),
        "apart": {"pages": measure_separation(server.pages), "queries": measure_separation(server.queries)},
    }


def render_table(result: dict[str, Any]) -> str:
    needed = {**result["threshold"], "lines": result["threshold"]["pages"]}
    rows = [f"{name}: {result[name]['title']} ({result[name]['fingerprint']})" for name in ("a", "b")]
    rows += ["", f"{'a beside b':<12}{'n':>6}{'min cosine':>13}{'median':>11}{'needed':>9}"]
    for kind in (*KINDS, *(["lines"] if "lines" in result else [])):
        row = result[kind]
        figures = f"{row['n']:>6}{row['min']:>13.6f}{row['median']:>11.6f}" if row else "  not the same lines were read"
        rows.append(f"{kind:<12}{figures}{needed[kind]:>9g}")
    share = result["ranks"]
    rows += [f"{result['queries']['n']} queries: the same page first for {share['first']:.1%};"]
    rows[-1] += f" {share['first_three']:.1%} of the first three pages are the same"
    rows += ["", f"{'how far different ones are apart':<34}{'median':>8}{'max':>8}"]
    for name in ("a", "b"):
        for kind in KINDS:
            row = result[name]["apart"][kind]
            rows.append(f"{name + ': ' + kind:<34}{row['median']:>8.3f}{row['max']:>8.3f}")
    return "\n".join(rows)


@contextmanager
def open_proofs(settings: Settings) -> Iterator[FolderProofs | SharedProofs]:
    """Yield what records proofs: for a store where the settings name one, else for the data folder."""
    if not (address := settings.store.get_secret_value()):
        yield FolderProofs(settings.data)
        return
    from serving.library.postgres_database import PostgresDatabase

    database = PostgresDatabase(address)
    database.open()
    try:
        yield SharedProofs(database)
    finally:
        database.close()


def record_proof(result: dict[str, Any], proofs: FolderProofs | SharedProofs, measured: str) -> str:
    """Record the proof for the collections, or withdraw an earlier one, and return in words what was done."""
    one, other = (result[name]["fingerprint"] for name in ("a", "b"))
    if one == other:
        return "both have the same fingerprint: there is nothing to record"
    if not result["equal"]:
        if not (gone := proofs.remove(one, other)):
            return "the two may not share a collection"
        return (
            f"{len(gone)} earlier proof(s) withdrawn from {proofs.place}; pages that were added by them are still there"
        )
    if result["blurred"]:
        return "nothing recorded"
    fields: dict[str, Any] = {name: result.get(name) for name in ("pages", "queries", "threshold", "lines")}
    proofs.add(Proof(fingerprints=(one, other), measured=measured, **fields))
    return f"recorded in {proofs.place}: the two may share a collection"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    for name in ("a", "b"):
        key = f"its key comes from DORMOUSE_WORKER_KEY_{name.upper()}, else DORMOUSE_WORKER_KEY"
        add(f"--{name}", metavar="URL", required=True, help=f"a worker or engine; {key}")
    for kind, least in (("pages", 0.999), ("queries", 0.9999)):
        least_help = f"the least cosine of {kind} that counts as equal; default: %(default)s"
        add(f"--threshold-{kind}", type=float_between(1e-6, 1), default=least, metavar="C", help=least_help)
    recall.add_corpus(parser)
    add(
        "--data",
        type=Path,
        help="folder whose collections may rely on it; default: DORMOUSE_STORE, DORMOUSE_DATA or data",
    )
    add("--no-record", action="store_true", help="write the result only, and leave the data folder alone")
    record.add_out(parser, "parity.json")


def main(options: argparse.Namespace) -> int:
    """Compare the servers, write the result, record the proof; return 1 if they do not count as equal."""
    environment = record.describe_environment()
    settings = Settings() if options.data is None else Settings(data=options.data)
    if options.out.resolve() == (settings.data / fingerprints.FILE).resolve():
        raise ValueError(f"{options.out} is where proofs are kept: write the result elsewhere")
    both = os.environ.get("DORMOUSE_WORKER_KEY", "")
    servers = [
        open_client(url, os.environ.get(f"DORMOUSE_WORKER_KEY_{name}", both))
        for name, url in (("A", options.a), ("B", options.b))
    ]
    a, b = embed_on_both(servers, options.corpus, settings, make_progress())
    threshold = Threshold(pages=options.threshold_pages, queries=options.threshold_queries)
    result = compare_vectors(a, b, threshold)
    print(render_table(result))
    saved = record.save_result(options.out, "parity", result, environment)
    if not options.no_record:
        with open_proofs(settings) as proofs:
            print(record_proof(result, proofs, environment["time"]))
    if result["equal"] and not result["blurred"]:
        print(f"written to {saved}")
        return 0
    reason = NOTHING_SHOWN if result["blurred"] else "the two servers do not compute the same vectors"
    print(f"{reason} (written to {saved})", file=sys.stderr)
    return 1
