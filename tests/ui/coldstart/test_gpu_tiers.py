"""The table of starts on a GPU, and the runs that it is read from."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bench.results.record import RUNS
from bench.speed.gpu_tiers import TIERS
from ui.coldstart import gpu_tiers


@pytest.mark.parametrize("card", ["H100", "H200"])
def test_the_recorded_runs_are_shown_with_their_date_and_machine(card: str) -> None:
    shown = gpu_tiers.render_table(RUNS)
    run = orjson.loads((RUNS / f"bench-gpu-{card.lower()}.json").read_bytes())
    assert f"NVIDIA {card}" in shown and run["environment"]["time"][:10] in shown
    for name, tier in run["tiers"].items():
        assert gpu_tiers.HELD[name] in shown and f"{tier['median_s']:.2f} s" in shown
        assert len(tier["samples_s"]) == tier["n"] >= 8
    assert set(TIERS) - set(run["tiers"]) <= {"vllm_host"}
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
