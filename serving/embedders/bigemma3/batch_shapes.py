"""The batch shapes that a GPU runs BiGemma3 in. Imports no torch, so that the engine can know them too."""

from __future__ import annotations

from collections.abc import Sequence

from serving.embedders.bigemma3.tokens import MAX_QUERY_TOKENS

PAGE_BATCHES: tuple[int, ...] = (1, 2, 4, 8)
"""8 pages keep an H200 as busy as 16 do, and a query that meets them waits less."""
QUERY_BATCHES = (1, 8, 32)
QUERY_LENGTHS = (32, 128, 512, MAX_QUERY_TOKENS)
"""Tokens. Questions have 10 to 30; one that does not fit into SHORT is a batch of its own."""
SHORT = 128


def smallest_size(count: int, sizes: Sequence[int]) -> int:
    """Return the first of the ascending `sizes` that holds `count`."""
    return next(size for size in sizes if size >= count)


def rows_by_length(ids: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Return the row numbers of the queries `ids` for each length of QUERY_LENGTHS that is needed."""
    found: dict[int, list[int]] = {}
    for row, query in enumerate(ids):
        found.setdefault(smallest_size(len(query), QUERY_LENGTHS), []).append(row)
    return found
