"""The bench of ingest, worker and search: how pairs are timed, and what is searched."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bench.results.stats import percentile
from bench.speed import worker
from serving.library.library import Library


def test_seconds_become_milliseconds_with_the_p95_of_all_result_files() -> None:
    seconds = [ms / 1000 for ms in range(10, 0, -1)]
    figures = worker.summarise_seconds(seconds)
    assert figures["p95_ms"] == pytest.approx(percentile([1000 * value for value in seconds], 95))
    assert figures["n"] == 10 and figures["p50_ms"] == 5.5 and figures["samples_ms"][0] == 10.0
    assert figures["p95_weak"] and not worker.summarise_seconds([0.001] * 20)["p95_weak"]
    assert worker.summarise_seconds([0.0123456], 1)["samples_ms"] == [12.3]


def test_the_median_difference_is_of_pairs() -> None:
    assert worker.subtract_medians([0.010, 0.030, 0.020], [0.001, 0.002, 0.003]) == pytest.approx(17.0)
    with pytest.raises(ValueError, match="shorter"):
        worker.subtract_medians([0.010, 0.030], [0.001])


def test_calls_take_turns_and_the_first_are_not_counted() -> None:
    calls: list[tuple[str, int]] = []

    def slow(turn: int) -> None:
        calls.append(("one", turn))
        time.sleep(0.02 if turn == 2 else 0)

    one, other = worker.time_in_turn(slow, lambda turn: calls.append(("other", turn)), 2, 1)
    assert calls == [(name, turn) for turn in range(3) for name in ("one", "other")]
    assert len(one) == len(other) == 2 and one[1] >= 0.02 > one[0]


def test_a_call_is_timed_to_its_end() -> None:
    assert 0.02 <= worker.time_call(lambda: time.sleep(0.02)) < 5


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
