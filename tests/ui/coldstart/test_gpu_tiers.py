from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bench.coldstart.target import LocalEngine
from bench.results.record import RUNS
from bench.speed import gpu_tiers as bench
from tests.support.engines import EngineProcess
from ui.coldstart import gpu_tiers


@pytest.mark.parametrize("card", ["H100", "H200"])
def test_the_recorded_runs_are_shown_with_their_date_and_machine(card: str) -> None:
    shown = gpu_tiers.render_table(RUNS)
    run = orjson.loads((RUNS / f"bench-gpu-{card.lower()}.json").read_bytes())
    assert f"NVIDIA {card}" in shown and run["environment"]["time"][:10] in shown
    for name, tier in run["tiers"].items():
        assert gpu_tiers.HELD[name] in shown and f"{tier['median_s']:.2f} s" in shown
        assert len(tier["samples_s"]) == tier["n"] >= 8
    assert set(bench.TIERS) - set(run["tiers"]) <= {"vllm_host"}
    assert "gpu" not in run, "the card stands once, in the environment"


def test_of_one_card_the_latest_run_is_shown(tmp_path: Path) -> None:
    run = orjson.loads((RUNS / "bench-gpu-h100.json").read_bytes())
    for name, day in (("-a", "2026-01-02"), ("", "2026-01-03"), ("-c", "2026-01-01")):
        run["environment"]["time"] = f"{day}T00:00:00+00:00"
        (tmp_path / f"bench-gpu{name}.json").write_bytes(orjson.dumps(run))
    shown = gpu_tiers.render_table(tmp_path)
    assert shown.count("<table>") == 1 and "2026-01-03" in shown


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"kind": "gpu-tiers"}', b"[1]", b'{"kind": "gpu-tiers", "tiers": 3}']
)
def test_a_file_that_is_something_else_is_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bench-gpu-x.json").write_bytes(content)
    assert gpu_tiers.render_table(tmp_path) == ""


def test_an_engine_is_measured_from_zero_and_left_at_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real engine that restores nothing, which is the tier `none`."""
    (plain,) = bench.list_start_modes(["none"])
    with EngineProcess(tmp_path, "plain") as process:
        local = LocalEngine("t", process.wait(), "", process.admin["X-Admin-Key"])
        engine = bench.TierEngine(plain, local)
        row = engine.take_sample("none")
        assert row["counts"] and row["seconds"] > 0 and row["cosine"] == pytest.approx(1), row
        assert local.read_status()["state"] == "zero" and engine.memory["none"]["gpu_used_mib"] is None
        monkeypatch.setattr(bench, "TIER_S", 0.1)
        assert "not at zero with host" in engine.take_sample("host")["why_not"]
        local.close()


def test_only_answers_that_came_as_meant_count() -> None:
    good = {"seconds": 0.5, "phases_ms": {"restore": 250.0, "weights": 200.0}, "counts": True, "why_not": ""}
    found = {
        "weights_bytes": 8_000_000_000,
        "tiers": {
            "host": {
                "samples": [good, bench.build_failed_sample("it came as plain from none"), {**good, "seconds": 0.7}]
            }
        },
    }
    bench.summarise_tiers(found)
    assert found["tiers"]["host"]["samples_s"] == [0.5, 0.7]  # type: ignore[index]
    assert found["tiers"]["host"]["median_s"] == 0.6 and found["weights_gbps"] == 40.0  # type: ignore[index]


def test_start_modes_serve_the_tiers_that_are_asked_for() -> None:
    assert [mode.name for mode in bench.list_start_modes(bench.TIERS)] == ["kept", "file", "plain", "vllm"]
    (kept,) = bench.list_start_modes(["host"])
    assert kept.tiers == ("host",) and not kept.environment
