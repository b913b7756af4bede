"""Holds the vectors of one collection in memory and searches them exactly by usearch. Knows nothing of pages or files.

Rows are fp16: measured on 10,000 and 100,000 random vectors, the ten best are those of float32. They are in blocks, so
that a change copies one block and not the collection, and a search that leaves out most rows copies few at a time.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnxruntime  # noqa: F401 - before usearch: loaded after it, it ends the process (SIGSEGV)
from numpy.typing import NDArray
from usearch.index import MetricKind, search

from serving.embedders.base import Vectors

HalfVectors = NDArray[np.float16]
Places = NDArray[np.intp]
BLOCK_BYTES = 64 * 1024 * 1024
"""Vectors of a block: of 2560 numbers each, 13,107. usearch starts threads for each block, so small ones are slower."""
COPIED_BYTES = 16 * 1024 * 1024
"""Vectors that a search with a filter copies at a time."""
MOST_ROWS = 0.5
"""Share of a block's rows from which all are searched, and the others left out of what is found: nothing is copied."""
BLOCK_ROWS = 4_096
"""Rows that are converted to float32 at a time: of 2560 numbers each, 42 MB."""
ID_BYTES = 85
"""Memory of an id, a string of 16 letters and its place in a list, and of its row's group and time."""


class Row(NamedTuple):
    """A row to load."""

    id: str
    vector: bytes
    """fp16"""
    group: int = 0
    time: float = 0.0


class RowFilter(Protocol):
    """Selects rows of a block as it was at some moment."""

    def mask_rows(self, block: Block) -> NDArray[np.bool_]: ...


class Part(NamedTuple):
    """Rows to compare; the id of row n is `ids[places[n]]`."""

    ids: list[str]
    places: Places
    rows: HalfVectors


class Block:
    """Rows that lie behind one another in memory. Those in use never change in place."""

    def __init__(
        self, ids: list[str], rows: HalfVectors, groups: NDArray[np.int32], times: NDArray[np.float64]
    ) -> None:
        """The first len(ids) of the others are in use."""
        self.ids = ids
        self.rows = rows
        self.groups = groups
        self.times = times

    @property
    def is_full(self) -> bool:
        return len(self.ids) >= count_block_rows(self.rows.shape[1])

    def append_row(self, page_id: str, row: HalfVectors, group: int, time: float) -> None:
        count = len(self.ids)
        if count == len(self.rows):
            size = min(max(64, count * 2), count_block_rows(len(row)))
            self.rows, self.groups, self.times = (grow(old, size) for old in (self.rows, self.groups, self.times))
        self.rows[count], self.groups[count], self.times[count] = row, group, time
        # A new list would be O(n); searches use as many ids as there were rows when they began.
        self.ids.append(page_id)

    def without(self, ids: AbstractSet[str]) -> Block:
        """Return the block without these rows: itself, where it has none of them."""
        keep = [n for n, page_id in enumerate(self.ids) if page_id not in ids]
        if len(keep) == len(self.ids):
            return self
        return Block([self.ids[n] for n in keep], self.rows[keep], self.groups[keep], self.times[keep])

    def snapshot(self) -> Block:
        """Return the rows as they are now, whatever is appended. Nothing is copied."""
        count = len(self.ids)
        return Block(self.ids, self.rows[:count], self.groups[:count], self.times[:count])


@dataclass(frozen=True)
class ChosenRows:
    """Selects rows by their ids."""

    ids: AbstractSet[str]

    def mask_rows(self, block: Block) -> NDArray[np.bool_]:
        count = len(block.rows)
        return np.fromiter((page_id in self.ids for page_id in islice(block.ids, count)), np.bool_, count)


class VectorMatrix:
    """Ids and fp16 vectors. Append is amortised O(1); a search sees the rows at its begin, outside the lock."""

    def __init__(self, blocks: list[Block]) -> None:
        self._lock = threading.Lock()
        self._blocks = blocks
        self._dimension = blocks[0].rows.shape[1] if blocks else 0

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> VectorMatrix:
        """Return a matrix of rows, in the order they were added."""
        source, blocks = iter(rows), list[Block]()
        for first in source:
            some = chain([first], islice(source, count_block_rows(len(first.vector) // 2) - 1))
            blocks.append(read_block(some))
        return cls(blocks)

    def __len__(self) -> int:
        return sum(len(block.ids) for block in self._blocks)

    @property
    def bytes(self) -> int:
        return sum(block.rows.nbytes + ID_BYTES * len(block.ids) for block in self._blocks)

    @property
    def dimension(self) -> int:
        return self._dimension

    def append_row(self, page_id: str, row: HalfVectors, group: int = 0, time: float = 0.0) -> None:
        with self._lock:
            if not self._blocks or self._blocks[-1].is_full:
                self._dimension = len(row)
                empty = np.empty((0, len(row)), np.float16), np.empty(0, np.int32), np.empty(0, np.float64)
                self._blocks.append(Block([], *empty))
            self._blocks[-1].append_row(page_id, row, group, time)

    def remove_rows(self, ids: AbstractSet[str]) -> None:
        with self._lock:
            left = (block.without(ids) for block in self._blocks)
            self._blocks = [block for block in left if block.ids]

    def find_groups(self, count: int) -> NDArray[np.bool_]:
        """Return for each group below `count` whether it has a row."""
        found = np.zeros(count, np.bool_)
        for block in self._take_blocks():
            found[block.groups[block.groups < count]] = True
        return found

    def count_rows(self, within: RowFilter) -> int:
        return sum(int(within.mask_rows(block).sum()) for block in self._take_blocks())

    def search(self, vector: Vectors, count: int, within: RowFilter | None = None) -> list[tuple[str, float]]:
        """Return the best `count` (id, cosine) of `within`; a shorter `vector` is compared with as many numbers."""
        ids: list[str] = []
        found: list[tuple[HalfVectors, NDArray[np.float32]]] = []
        for block in self._take_blocks():
            for places, distances in search_block(block, vector, count, within):
                ids += [block.ids[place] for place in places.tolist()]
                found.append((block.rows[places], distances))
        if not ids:
            return []
        best = np.argsort(np.concatenate([distances for _, distances in found]), kind="stable")[:count]
        # fp16 sums may swap near-ties: the few best are compared again in float32.
        rows = np.concatenate([rows for rows, _ in found])[best]
        scores = compute_cosines(rows, np.asarray(vector, dtype=np.float32)[None])[0]
        order = np.argsort(-scores, kind="stable")
        return [(ids[best[n]], float(scores[n])) for n in order]

    def score_rows(self, queries: Vectors, within: RowFilter | None = None) -> tuple[list[str], Vectors]:
        """Return the ids `within` in the order they were added, and float32[queries, ids], the cosine of each pair."""
        ids: list[str] = []
        scores = [np.empty((len(queries), 0), np.float32)]
        for part in self._select_rows(within):
            ids += [part.ids[place] for place in part.places.tolist()]
            for start in range(0, len(part.rows), BLOCK_ROWS):
                scores.append(compute_cosines(part.rows[start : start + BLOCK_ROWS], queries))
        return ids, np.concatenate(scores, axis=1)

    def _take_blocks(self) -> list[Block]:
        with self._lock:
            return [block.snapshot() for block in self._blocks]

    def _select_rows(self, within: RowFilter | None) -> Iterator[Part]:
        for block in self._take_blocks():
            count = len(block.rows)
            places = np.arange(count) if within is None else np.flatnonzero(within.mask_rows(block))
            if len(places) == count:
                yield Part(block.ids, places, block.rows)
                continue
            for some in split_places(places, self._dimension):
                yield Part(block.ids, some, block.rows[some])


def count_block_rows(dimension: int) -> int:
    return max(1, BLOCK_BYTES // (2 * dimension))


def read_block(rows: Iterable[Row]) -> Block:
    """Return a block of all the rows. Vectors are joined one by one: twice the memory of a block is not needed."""
    ids, vectors, groups, times = list[str](), bytearray(), array("i"), array("d")
    for row in rows:
        ids.append(row.id)
        vectors += row.vector
        groups.append(row.group)
        times.append(row.time)
    matrix = np.frombuffer(vectors, np.float16).reshape(len(ids), -1)
    return Block(ids, matrix, np.array(groups, np.int32), np.array(times, np.float64))


def grow(old: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the rows with room for more of them, `size` in all."""
    grown = np.empty((size, *old.shape[1:]), old.dtype)
    grown[: len(old)] = old
    return grown


def split_places(places: Places, dimension: int) -> Iterator[Places]:
    """Yield the places of rows in parts that may be copied at once."""
    step = max(1, COPIED_BYTES // (2 * dimension))
    return (places[start : start + step] for start in range(0, len(places), step))


def search_block(
    block: Block, vector: Vectors, count: int, within: RowFilter | None
) -> Iterator[tuple[Places, NDArray[np.float32]]]:
    """Yield places and distances of rows among which the `count` nearest of `within` are."""
    mask = np.ones(len(block.rows), np.bool_) if within is None else within.mask_rows(block)
    if mask.mean() >= MOST_ROWS:
        yield search_most(block.rows, vector, min(count, int(mask.sum())), mask)
        return
    for places in split_places(np.flatnonzero(mask), block.rows.shape[1]):
        keys, distances = search_part(block.rows[places], vector, min(count, len(places)))
        yield places[keys], distances


def search_most(
    rows: HalfVectors, vector: Vectors, count: int, mask: NDArray[np.bool_]
) -> tuple[Places, NDArray[np.float32]]:
    """Return what `search_part` does, of the rows in the mask; asks for more of all until these are among them."""
    asked = count
    while True:
        places, distances = search_part(rows, vector, asked)
        kept = mask[places]
        if kept.sum() >= count:
            return places[kept][:count], distances[kept][:count]
        asked = min(len(rows), 2 * asked)


def search_part(rows: HalfVectors, vector: Vectors, count: int) -> tuple[Places, NDArray[np.float32]]:
    """Return the places and distances of the `count` nearest rows, the nearest first."""
    # Rows have length 1, truncated ones do not.
    metric = MetricKind.IP if len(vector) == rows.shape[1] else MetricKind.Cos
    found = search(rows[:, : len(vector)], np.asarray(vector, dtype=np.float16), count, metric, exact=True)
    return np.asarray(found.keys, dtype=np.intp), np.asarray(found.distances, dtype=np.float32)


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
