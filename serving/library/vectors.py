"""Holds the vectors of one collection in memory and searches them exactly by usearch. Knows nothing of pages or files.

Rows are fp16: measured on 10,000 and 100,000 random vectors, the ten best are those of float32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import numpy as np
import onnxruntime  # noqa: F401 - before usearch: loaded after it, it ends the process (SIGSEGV)
from numpy.typing import NDArray
from usearch.index import MetricKind, search

from serving.embedders.base import Vectors

HalfVectors = NDArray[np.float16]
BLOCK_ROWS = 4_096
"""Rows that are converted to float32 at a time: of 2560 numbers each, 42 MB."""
ID_BYTES = 73
"""Memory of an id: a string of 16 letters and its place in a list."""


class VectorMatrix:
    """Ids and fp16 vectors. Append is amortised O(1); a search sees the rows at its begin, outside the lock."""

    def __init__(self, ids: list[str], rows: HalfVectors) -> None:
        self._lock = threading.Lock()
        self._ids = ids
        self._rows = rows
        """capacity x dimension; the first len(_ids) rows are in use and never change in place."""

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, bytes]]) -> VectorMatrix:
        """Return a matrix of (id, fp16 bytes), in the order they were added."""
        ids: list[str] = []
        data = bytearray()
        for page_id, vector in rows:
            ids.append(page_id)
            data += vector
        matrix = np.frombuffer(data, dtype=np.float16).reshape(len(ids), -1) if ids else np.empty((0, 0), np.float16)
        return cls(ids, matrix)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def bytes(self) -> int:
        return self._rows.nbytes + ID_BYTES * len(self._ids)

    @property
    def dimension(self) -> int:
        return int(self._rows.shape[1])

    def append_row(self, page_id: str, row: HalfVectors) -> None:
        with self._lock:
            count = len(self._ids)
            if count == len(self._rows):
                grown = np.empty((max(64, count * 2), row.shape[0]), np.float16)
                if count:  # an empty matrix has no dimension yet
                    grown[:count] = self._rows[:count]
                self._rows = grown
            self._rows[count] = row
            # A new list would be O(n); searches use as many ids as there were rows when they began.
            self._ids.append(page_id)

    def remove_rows(self, ids: AbstractSet[str]) -> None:
        with self._lock:
            keep = [n for n, page_id in enumerate(self._ids) if page_id not in ids]
            self._rows = self._rows[keep]
            self._ids = [self._ids[n] for n in keep]

    def search(self, vector: Vectors, count: int, within: frozenset[str] | None = None) -> list[tuple[str, float]]:
        """Return the best `count` (id, cosine) of `within`; a shorter `vector` is compared with as many numbers."""
        ids, rows = self._select_rows(within)
        count = min(count, len(rows))
        if not count:
            return []
        query = np.asarray(vector, dtype=np.float16)
        # Rows have length 1, truncated ones do not.
        metric = MetricKind.IP if len(vector) == rows.shape[1] else MetricKind.Cos
        found = search(rows[:, : len(vector)], query, count, metric, exact=True)
        keys = np.asarray(found.keys, dtype=np.int64)
        # fp16 sums may swap near-ties: the few best are compared again in float32.
        scores = compute_cosines(rows[keys], np.asarray(vector, dtype=np.float32)[None])[0]
        order = np.argsort(-scores, kind="stable")
        return [(ids[keys[n]], float(scores[n])) for n in order]

    def score_rows(self, queries: Vectors, within: frozenset[str] | None = None) -> tuple[list[str], Vectors]:
        """Return the ids `within` in the order they were added, and float32[queries, ids], the cosine of each pair."""
        ids, rows = self._select_rows(within)
        parts = [
            compute_cosines(rows[start : start + BLOCK_ROWS], queries) for start in range(0, len(rows), BLOCK_ROWS)
        ]
        return list(ids), np.concatenate(parts, axis=1) if parts else np.empty((len(queries), 0), np.float32)

    def _select_rows(self, within: frozenset[str] | None) -> tuple[list[str], HalfVectors]:
        with self._lock:
            ids, rows = self._ids[: len(self._ids)] if within is not None else self._ids, self._rows[: len(self._ids)]
        if within is None:
            return ids[: len(rows)], rows
        selected = [n for n, page_id in enumerate(ids) if page_id in within]
        return [ids[n] for n in selected], rows[selected]


def truncate_vectors(vectors: Vectors, dimension: int | None) -> Vectors:
    """Return the first `dimension` numbers of each vector, scaled to length 1; unchanged if a vector has no more."""
    if dimension is None or dimension >= vectors.shape[-1]:
        return vectors
    short = vectors[..., :dimension]
    norms = np.linalg.norm(short, axis=-1, keepdims=True)
    return np.asarray(short / np.where(norms == 0, 1, norms), dtype=np.float32)


def compute_cosines(rows: HalfVectors, queries: Vectors) -> Vectors:
    """Return float32[queries, rows]. Queries have length 1; of each row as many numbers are compared as a query has."""
    return np.asarray(queries @ truncate_vectors(rows.astype(np.float32), queries.shape[1]).T, dtype=np.float32)
