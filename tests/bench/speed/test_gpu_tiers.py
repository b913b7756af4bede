"""First answers by what is held at zero: which engines that needs, and which answers count."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from bench.coldstart.target import LocalEngine
from bench.speed import gpu_tiers
from tests.support.engines import EngineProcess


def test_an_engine_is_measured_from_zero_and_left_at_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real engine that restores nothing, which is the tier `none`."""
    (plain,) = gpu_tiers.list_start_modes(["none"])
    with EngineProcess(tmp_path, "plain") as process:
        local = LocalEngine("t", process.wait(), "", process.admin["X-Admin-Key"])
        engine = gpu_tiers.TierEngine(plain, local)
        row = engine.take_sample("none")
        assert row["counts"] and row["seconds"] > 0 and row["cosine"] == pytest.approx(1), row
        assert local.read_status()["state"] == "zero" and engine.memory["none"]["gpu_used_mib"] is None
        monkeypatch.setattr(gpu_tiers, "TIER_S", 0.1)
        assert "not at zero with host" in engine.take_sample("host")["why_not"]
        local.close()


def test_only_answers_that_came_as_meant_count() -> None:
    good = {"seconds": 0.5, "phases_ms": {"restore": 250.0, "weights": 200.0}, "counts": True, "why_not": ""}
    found = {
        "weights_bytes": 8_000_000_000,
        "tiers": {
            "host": {
                "samples": [good, gpu_tiers.build_failed_sample("it came as plain from none"), {**good, "seconds": 0.7}]
            }
        },
    }
    gpu_tiers.summarise_tiers(found)
    assert found["tiers"]["host"]["samples_s"] == [0.5, 0.7]  # type: ignore[index]
    assert found["tiers"]["host"]["median_s"] == 0.6 and found["weights_gbps"] == 40.0  # type: ignore[index]


def test_start_modes_serve_the_tiers_that_are_asked_for() -> None:
    assert [mode.name for mode in gpu_tiers.list_start_modes(gpu_tiers.TIERS)] == ["kept", "file", "plain", "vllm"]
    (kept,) = gpu_tiers.list_start_modes(["host"])
    assert kept.tiers == ("host",) and not kept.environment


def test_a_tier_without_a_sample_that_counts_has_no_figures() -> None:
    result: dict[str, Any] = {
        "weights_bytes": 1, "tiers": {"host": {"samples": [gpu_tiers.build_failed_sample("it was serving")]}},
    }  # fmt: skip
    gpu_tiers.summarise_tiers(result)
    assert result["weights_gbps"] is None
    assert {name: value for name, value in result["tiers"]["host"].items() if name != "samples"} == {
        "samples_s": [], "n": 0, "median_s": None, "phases_ms": {},
    }  # fmt: skip


def test_an_unknown_tier_is_refused_before_anything_starts() -> None:
    options = argparse.Namespace(tiers="host,moon")
    with pytest.raises(ValueError, match="there is no tier moon: context, host"):
        gpu_tiers.measure_tiers(options, print, print)


@pytest.mark.parametrize(("lines", "used"), [(["1234"], 1234), (["[N/A]"], None), ([], None)])
def test_gpu_memory_is_a_number_or_none(lines: list[str], used: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tiers, "query_gpus", lambda *_: lines)
    assert gpu_tiers.read_gpu_used() == used
