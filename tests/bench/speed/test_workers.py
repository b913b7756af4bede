"""The bench of several workers, with real engines of a scripted embedder: what it counts, and what it does not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import build_parser
from bench.speed import workers
from tests.support.scripted_engine import NAME


def parse(*given: str) -> argparse.Namespace:
    return build_parser().parse_args(["workers", "--embedder", NAME, *given])


@pytest.mark.long
@pytest.mark.soak
def test_one_beside_two_and_both_back_from_zero(tmp_path: Path) -> None:
    options = parse("--rounds", "1", "--seconds", "0.5", "--clients", "4", "--ways", "fork", "--restores", "2")
    kept: list[Any] = []
    found = workers.measure_workers(options, lambda _: None, kept.append)
    assert [found["parts"][count]["n"] for count in ("1", "2")] == [1, 1] and found["times"] > 0
    assert found["parts"]["2"]["rounds"][0]["failures"] == 0
    restores = found["restores"]["fork"]
    assert restores["n"] == 2 and restores["failures"] == {}
    assert all(len(row["workers"]) == 2 for row in restores["rows"]) and len(kept) == 2


def test_medians_are_of_the_rounds() -> None:
    rows = [{"pages_per_s": rate, "queries_ms": [10.0, 20.0]} for rate in (10.0, 12.0, 50.0)]
    result: dict[str, Any] = {"parts": {"1": {"rounds": rows}, "2": {"rounds": [{**rows[0], "pages_per_s": 18.0}]}}}
    workers.summarise_parts(result)
    assert result["parts"]["1"]["pages_per_s"] == 12.0 and result["times"] == 1.5
    assert result["parts"]["1"]["n"] == 3 and result["parts"]["1"]["query_p95_ms"] == 20.0


@pytest.mark.parametrize("given", [("--workers", "1"), ("--clients", "0"), ("--seconds", "-1")])
def test_what_makes_no_sense_is_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        parse(*given)
