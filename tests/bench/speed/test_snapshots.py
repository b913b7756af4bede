"""The bench of sleeping workers: ratios, what a process holds, and what proves an answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.speed.snapshots import BACKENDS, PLAIN_SERVER, PLAINLY, SleepingEngine, compare_backends, render_figures

SECONDS: dict[str, dict[str, list[float]]] = {
    "plain": {"query": [1.0, 1.2], "page": [2.0]},
    "criu": {"query": [0.1, 0.1, 0.3], "page": [0.5]},
    "fork": {"query": [0.05], "page": []},
    PLAINLY: {"query": [4.0], "page": []},
}


def test_each_backend_is_beside_both_baselines() -> None:
    ratios = compare_backends(SECONDS)
    assert ratios["first query, criu beside plain"] == {
        "ours_ms": 100.0, "baseline_ms": 1100.0, "ratio": 11.0, "n": 2, "goal": "; goal 8",
    }  # fmt: skip
    assert ratios[f"first query, fork beside {PLAINLY}"]["ratio"] == 80 and ratios["first page, criu beside plain"]
    assert not [name for name in ratios if name.startswith("first page, fork") or name.endswith(f"page, {PLAINLY}")]
    assert "first query, plain beside plain" not in ratios and len(ratios) == 6


def test_the_result_in_words() -> None:
    held = {"held_at_zero_pss_mb": 12.3, "held_processes": 1, "engine_pss_mb": 80.0, "snapshot_mb": 300.0,
            "snapshot_over_anonymous": 1.25, "worker_anonymous_mb": 240.0}  # fmt: skip
    overhead = {"engine": {"p50_ms": 5.0, "n": 200}, "worker": {"p50_ms": 4.0}, "overhead_p50_ms": 1.0}
    figures: dict[str, Any] = {"ratios": compare_backends(SECONDS), "overhead": overhead}
    lines = render_figures(figures | dict.fromkeys(BACKENDS, held)).splitlines()
    assert lines[3].endswith("first query, criu beside plain: 100 ms against 1100 ms, 11.0x (n=2; goal 8)")
    assert lines[-2].startswith("held at zero by fork: 12 MB (PSS, 1 processes) beside the engine's own 80; snapshot")
    assert lines[-1] == "one warm query: engine 5.0 ms, worker 4.0 ms, overhead p50 1.00 ms (n=200; goal under 2)"
    assert len(lines) == len(figures["ratios"]) + len(BACKENDS) + 1


class Engine:
    """An engine whose answers are given."""

    def __init__(self, name: str, **headers: str) -> None:
        self.name = name
        self.headers = {"X-Boot-Requests": "1", "X-Boot-Id": "b", "X-Start-Kind": "restored", **headers}

    def scale_down(self) -> None: ...

    def time_embed(self, _: dict[str, Any]) -> tuple[float, Any]:
        content = {"embeddings": [[0.6, 0.8]]}
        return 0.25, SimpleNamespace(headers=self.headers, json=lambda: content, raise_for_status=lambda: None)

    def read_status(self) -> dict[str, Any]:
        return {"last_start": {"phases": {"restore": 200.0}}}


def ask(engine: Any, right: list[float] | None = None) -> SleepingEngine:
    sleeper = SleepingEngine(engine)
    assert sleeper.ask_cold({}, right or [0.6, 0.8], "query") == 0.25
    return sleeper


def test_a_cold_answer_is_kept_with_its_phases() -> None:
    assert ask(Engine("criu")).samples == [{"what": "query", "ms": 250.0, "boot": "b", "restore": 200.0}]
    assert ask(Engine("plain", **{"X-Start-Kind": "plain"})).samples


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (Engine("criu", **{"X-Boot-Requests": "2"}), "not proven cold"),
        (Engine("criu", **{"X-Start-Kind": "plain"}), "plain"),
        (Engine("plain"), "restored"),
    ],
)
def test_an_answer_that_proves_nothing_ends_the_bench(engine: Engine, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        ask(engine)


def test_another_vector_or_the_same_process_twice_ends_it() -> None:
    with pytest.raises(AssertionError, match="another vector"):
        ask(Engine("criu"), [0.8, 0.6])
    sleeper = ask(Engine("criu"))
    with pytest.raises(AssertionError, match="not proven cold"):
        sleeper.ask_cold({}, [0.6, 0.8], "query")


def test_the_plainly_written_server_is_python() -> None:
    compile(PLAIN_SERVER, "server", "exec")
