"""The bench of ingest, worker and search: what is searched."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bench.speed import worker
from serving.library.library import Library


def test_leaving_clients_hold_the_loop_for_a_moment_only() -> None:
    said: list[str] = []
    figures = worker.measure_dropping(said.append, leaving=3)
    assert figures["pages"] == 3 and 0 < figures["held_ms"] < 5000 and said[0].startswith("dropping 3 pages")


def test_rows_have_length_1_and_a_query_is_nearest_to_its_own() -> None:
    rows = worker.draw_rows(300)
    assert rows.shape == (300, worker.DIMENSION) and rows.dtype == np.float16
    assert np.linalg.norm(rows.astype(np.float32), axis=1) == pytest.approx(1, abs=1e-3)
    assert (rows == worker.draw_rows(300)).all()
    for number in (0, 1, 5):
        query = worker.mix_query(rows, number)
        assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
        best, second = np.argsort(-(rows.astype(np.float32) @ query))[:2]
        assert best == number * 97 % 300 and (number == 0 or second == number * 31 % 300)


def test_rows_that_were_written_straight_are_found_by_the_library(tmp_path: Path) -> None:
    rows = worker.draw_rows(50)
    worker.fill_library(tmp_path, rows)
    with closing(Library(tmp_path)) as library:
        key = library.catalogue.find_collection("bench").key
        hits = library.ranking.search(key, worker.mix_query(rows, 3), 10, worker.FINGERPRINT)
        said: list[str] = []
        figures = worker.compare_searches(library, rows, said.append, n=2)
    assert len(hits) == 10 and hits[0].page.id == f"{3 * 97 % 50:016x}"
    assert figures["library"]["n"] == figures["usearch"]["n"] == 2 and figures["ratio"] > 0
    assert said[0].startswith("search of 50 x 2560: ")
