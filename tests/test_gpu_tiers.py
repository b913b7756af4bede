from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bench import gpu_tiers as bench
from bench.record import RUNS
from ui import gpu_tiers


def test_the_recorded_run_is_shown_with_its_date_and_machine() -> None:
    shown = gpu_tiers.table(RUNS)
    run = orjson.loads((RUNS / "bench-gpu-h200.json").read_bytes())
    assert "NVIDIA H200" in shown and run["environment"]["time"][:10] in shown
    for tier in bench.TIERS:
        assert gpu_tiers.HELD[tier] in shown
        assert f"{run['tiers'][tier]['median_s']:.2f} s" in shown
    assert {"context", "host", "disk", "none", "vllm_host"} == set(run["tiers"]) == set(bench.TIERS)
    assert all(tier["n"] >= 10 and len(tier["samples_s"]) == tier["n"] for tier in run["tiers"].values())


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"kind": "gpu-tiers"}', b"[1]", b'{"kind": "gpu-tiers", "tiers": 3}']
)
def test_a_file_that_is_something_else_is_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bench-gpu-x.json").write_bytes(content)
    assert gpu_tiers.table(tmp_path) == ""


def test_only_answers_that_came_as_meant_count() -> None:
    good = {"seconds": 0.5, "phases_ms": {"restore": 250.0, "weights": 200.0}, "counts": True, "why_not": ""}
    found = {
        "weights_bytes": 8_000_000_000,
        "tiers": {"host": {"samples": [good, bench.failed("it came as plain from none"), {**good, "seconds": 0.7}]}},
    }
    bench.summarise(found)
    assert found["tiers"]["host"]["samples_s"] == [0.5, 0.7]  # type: ignore[index]
    assert found["tiers"]["host"]["median_s"] == 0.6 and found["weights_gbps"] == 40.0  # type: ignore[index]


def test_ways_serve_the_tiers_that_are_asked_for() -> None:
    assert [way.name for way in bench.ways(bench.TIERS)] == ["kept", "file", "plain", "vllm"]
    (kept,) = bench.ways(["host"])
    assert kept.tiers == ("host",) and not kept.environment
