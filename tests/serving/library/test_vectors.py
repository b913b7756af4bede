"""One collection's vectors in memory, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.library import vectors
from serving.library.library import Library
from serving.library.vectors import Block, Row, VectorMatrix, truncate_vectors
from tests.support.libraries import add, at, new
from tests.support.scripted import unit


def test_matrix_agrees_with_numpy(library: Library) -> None:
    rows = {add(library, new("a.pdf", page, dimension=2560)): unit(f"a.pdf {page}", 2560) for page in range(1, 300)}
    names, matrix = list(rows), np.stack(list(rows.values()))
    for number in range(20):
        query = unit(f"query {number}", 2560)
        best = [names[n] for n in np.argsort(-(matrix @ query))[:5]]
        assert [hit.page.id for hit in library.ranking.search(at(library), query, 5, "f1")] == best


def test_rows_come_and_go_and_searches_keep_what_they_took() -> None:
    rows = np.random.default_rng(3).standard_normal((200, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    matrix = VectorMatrix.from_rows([])
    for number, row in enumerate(rows):
        matrix.append_row(f"p{number}", row.astype(np.float16), number)
    assert len(matrix) == 200 and matrix.dimension == 16 and matrix.bytes > 200 * 32
    matrix.remove_rows({f"p{number}" for number in range(0, 200, 2)})
    found = matrix.search(rows[7], 3)
    assert found[0][0] == "p7" and found[0][1] > 0.999 and all(int(page[1:]) % 2 for page, _ in found)
    ((page_id, score),) = matrix.search(rows[7], 3, Only(9))
    assert page_id == "p9" and score == pytest.approx(float(rows[7] @ rows[9]), abs=1e-3)
    assert matrix.search(rows[7], 3, Only(8)) == [] and matrix.count_rows(Only(8)) == 0, "it was removed"
    assert matrix.find_groups(12).tolist() == [bool(number % 2) for number in range(12)]


@pytest.mark.parametrize("block_bytes", [32 * 7, 32 * 64, 64 * 1024 * 1024])
def test_blocks_of_any_size_find_the_same(monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    """Loaded and appended rows, removals in between, filters that leave few or many: always what numpy finds."""
    monkeypatch.setattr(vectors, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(vectors, "COPIED_BYTES", 32 * 5)
    rows = np.random.default_rng(4).standard_normal((300, 16)).astype(np.float32)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    loaded = (Row(f"p{n}", row.tobytes(), n, n / 2) for n, row in enumerate(rows[:150]))
    matrix = VectorMatrix.from_rows(loaded)
    for n, row in enumerate(rows[150:], 150):
        matrix.append_row(f"p{n}", row, n, n / 2)
    gone = {*range(0, 40), 149, 150, 299}
    matrix.remove_rows({f"p{n}" for n in gone})
    for number in range(300, 310):
        matrix.append_row(f"p{number}", rows[number - 300], number, number / 2)
    there = {**{n: rows[n] for n in range(300) if n not in gone}, **{n + 300: rows[n] for n in range(10)}}
    assert len(matrix) == len(there) and matrix.bytes >= len(there) * (32 + vectors.ID_BYTES)
    for within in (None, Only(77), Only(41, 148, 151, 309), Only(*range(0, 310, 3))):
        wanted = [n for n in there if within is None or n in within.groups]
        for query in rows[5:300:60].astype(np.float32):
            expected = sorted(wanted, key=lambda n: -float(there[n].astype(np.float32) @ query))[:8]
            found = matrix.search(query, 8, within)
            scores = [float(there[n].astype(np.float32) @ query) for n in expected]
            assert [score for _, score in found] == pytest.approx(scores, abs=1e-5)
            assert {page_id for page_id, _ in found} <= {f"p{n}" for n in wanted}
            ids, all_scores = matrix.score_rows(query[None], within)
            assert ids == [f"p{n}" for n in wanted] and all_scores.shape == (1, len(wanted))
        assert within is None or matrix.count_rows(within) == len(wanted)
    matrix.remove_rows({f"p{n}" for n in there})
    assert len(matrix) == 0 and matrix.search(rows[0].astype(np.float32), 3) == [] and matrix.dimension == 16


class Only:
    """Selects rows of these groups."""

    def __init__(self, *groups: int) -> None:
        self.groups = groups

    def mask_rows(self, block: Block) -> NDArray[np.bool_]:
        assert (block.times == block.groups / 2).all() or not block.times.any()
        return np.isin(block.groups, self.groups)


def test_truncated_vectors_have_length_one() -> None:
    whole = np.array([[3, 4, 12], [0, 0, 5]], np.float32)
    short = truncate_vectors(whole, 2)
    np.testing.assert_allclose(short, [[0.6, 0.8], [0, 0]], atol=1e-6)
    assert truncate_vectors(whole, 3) is whole and truncate_vectors(whole, None) is whole


def test_most_rows_are_found_where_the_others_are_nearer() -> None:
    """More and more of all rows are asked for, up to all of them."""
    rows = np.stack([unit(str(n), 16) for n in range(100)])
    query = rows[:40].mean(axis=0)
    order = np.argsort(-(rows @ query))
    near = set(order[:45].tolist())
    matrix = VectorMatrix.from_rows(
        Row(f"{n:016x}", row.astype(np.float16).tobytes(), group=int(n in near)) for n, row in enumerate(rows)
    )
    for count in (1, 8, 55, 90):
        found = [int(page_id, 16) for page_id, _ in matrix.search(query, count, Only(0))]
        assert found == order[45:][:count].tolist()
