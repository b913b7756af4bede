"""One collection's vectors in memory, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from serving.library.library import Library
from serving.library.vectors import VectorMatrix, truncate_vectors
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
        matrix.append_row(f"p{number}", row.astype(np.float16))
    assert len(matrix) == 200 and matrix.dimension == 16 and matrix.bytes > 200 * 32
    matrix.remove_rows({f"p{number}" for number in range(0, 200, 2)})
    found = matrix.search(rows[7], 3)
    assert found[0][0] == "p7" and found[0][1] > 0.999 and all(int(page[1:]) % 2 for page, _ in found)
    ((page_id, score),) = matrix.search(rows[7], 3, frozenset({"p9"}))
    assert page_id == "p9" and score == pytest.approx(float(rows[7] @ rows[9]), abs=1e-3)
    assert matrix.search(rows[7], 3, frozenset({"p8"})) == [], "it was removed"


def test_truncated_vectors_have_length_one() -> None:
    vectors = np.array([[3, 4, 12], [0, 0, 5]], np.float32)
    short = truncate_vectors(vectors, 2)
    np.testing.assert_allclose(short, [[0.6, 0.8], [0, 0]], atol=1e-6)
    assert truncate_vectors(vectors, 3) is vectors and truncate_vectors(vectors, None) is vectors
