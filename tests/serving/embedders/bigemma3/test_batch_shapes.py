"""Batches of fixed shapes."""

from __future__ import annotations

import pytest

from serving.embedders.bigemma3.batch_shapes import QUERY_LENGTHS, rows_by_length, smallest_size


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_the_smallest_size_that_holds_them(count: int, size: int) -> None:
    assert smallest_size(count, (1, 2, 4, 8)) == size


def test_queries_of_one_length_go_together() -> None:
    short, middle, longest = QUERY_LENGTHS[0], QUERY_LENGTHS[1], QUERY_LENGTHS[-1]
    lengths = [short, 1, short + 1, longest, 2, middle]
    assert rows_by_length([[0] * length for length in lengths]) == {short: [0, 1, 4], middle: [2, 5], longest: [3]}
    assert rows_by_length([]) == {}
