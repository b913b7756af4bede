"""The simulation beside a real engine: what is sent, what is compared, and how it ends."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.coldstart.run import Display
from bench.coldstart.sample import Sample
from bench.coldstart.target import LocalEngine
from bench.cost import fleet_validation
from bench.cost.fleet import Fleet, simulate_fleet
from bench.cost.fleet_validation import (
    APART_S,
    EngineTimes,
    compare_runs,
    draw_trace,
    explain_slow_machine,
    find_nearest_pause,
    measure_engine,
    render_table,
    replay_trace,
    send_requests,
)
from tests.support.engines import EngineProcess


@pytest.mark.parametrize(("window", "seed"), [(3.0, 0), (3.0, 7), (2.5, 1), (10.0, 2)])
def test_pauses_stay_away_from_the_window(window: float, seed: int) -> None:
    found = draw_trace(window, seed, 300)
    pauses = [after - before for before, after in pairwise(found)]
    assert found[0] == 0 and min(pauses) >= 0
    assert all(abs(pause - window) >= APART_S for pause in pauses)
    assert found == draw_trace(window, seed, 300) and found != draw_trace(window, seed + 1, 300)
    starts = {
        simulate_fleet(Fleet(256, 256, window), found, [0.01, 0.3], [0.1, 1.9], draw).cold_starts for draw in range(9)
    }
    assert starts == {1 + sum(pause > window for pause in pauses)}, "whatever a start takes, up to two seconds"


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="is too short"):
        draw_trace(1.5, 0)


def test_replay_sends_each_at_its_second_and_waits_for_nobody() -> None:
    began, all_there = time.monotonic(), threading.Barrier(3, timeout=20)

    def ask(number: int) -> float:
        sent = time.monotonic() - began
        all_there.wait()
        return sent

    sent = send_requests([0.0, 0.1, 0.3], ask)
    assert all(late >= planned for late, planned in zip(sent, [0.0, 0.1, 0.3], strict=True))

    def fail(number: int) -> None:
        if number == 2:
            raise ValueError("number two")

    with pytest.raises(ValueError, match="number two"):
        send_requests([0.0, 0.0, 0.0], fail)


def answers(*boots_and_ms: tuple[str, float]) -> list[Sample]:
    return [
        Sample(number, "t", "warm", 1, "2026-11-01T00:00:00+00:00", ms, "ok", boot_id=boot)
        for number, (boot, ms) in enumerate(boots_and_ms, 1)
    ]


def test_both_sides_by_hand() -> None:
    known = EngineTimes([1.0], [0.1])
    samples = answers(("a", 1100), ("a", 100), ("b", 1100), ("b", 600))
    found = compare_runs([0.0, 2.0, 10.0, 10.5], 3, known, samples, 0)
    assert (found["real"]["cold_starts"], found["simulated"]["cold_starts"]) == (2, [2])
    assert found["same_cold_starts"] and found["p95_difference"] == pytest.approx(0) and found["p95_goal_met"]
    assert found["nearest_to_the_window_s"] == pytest.approx(2.1), "from the first answer, at 1.1, to 2.0"
    assert (
        "the same" in render_table(found) and "within 15%: met" in render_table(found) and "n=4" in render_table(found)
    )

    slow = compare_runs([0.0, 2.0, 10.0, 10.5], 3, EngineTimes([2.0], [0.1]), answers(*[("a", 1100.0)] * 4), 0)
    assert not slow["same_cold_starts"] and not slow["p95_goal_met"] and slow["p95_difference"] > 0.8
    assert not explain_slow_machine(found)
    late = compare_runs([0.0, 2.0, 10.0, 10.5], 3, known, answers(*[("a", 2500.0)] * 4), 0)
    assert "an answer took 2.5 s" in explain_slow_machine(
        late
    ) and "run it again on an idle machine" in explain_slow_machine(late)
    assert "NOT the same" in render_table(slow) and "within 15%: NOT met" in render_table(slow)


def test_the_nearest_pause_is_from_answer_to_arrival() -> None:
    assert find_nearest_pause([0.0, 5.0, 5.1], [1.0, 0.2, 0.2], 3) == pytest.approx(1.0)


@pytest.mark.long
@pytest.mark.soak
def test_a_real_engine_starts_as_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_validation, "REST_S", (0.0, 0.1))
    with EngineProcess(tmp_path, "fork", "--scaledown-window", "2") as process:
        engine = LocalEngine("t", process.wait(), "", process.admin["X-Admin-Key"])
        known = measure_engine(engine, Display(), 3, 2, 0)
        assert len(known.starts) == 2 and len(known.service) == 6 and min(known.service) > 0
        arrivals = draw_trace(2.0, 3, 14)
        samples = replay_trace(engine, arrivals)
        engine.close()
    found = compare_runs(arrivals, 2.0, known, samples, 0)
    assert found["same_cold_starts"], render_table(found)
    assert found["real"]["cold_starts"] >= 2 and found["real"]["n"] == len(arrivals)


@pytest.mark.parametrize("same", [True, False])
def test_the_exit_code_is_by_the_cold_starts(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = answers(("a", 900), ("a" if same else "b", 20))
    made: dict[str, Any] = compare_runs([0.0, 1.0], 3, EngineTimes([0.2], [0.02]), samples, 0)
    monkeypatch.setattr(fleet_validation, "validate_fleet", lambda *_: made)
    path = tmp_path / "found.json"
    assert main(["simulate", "--validate", "--out", str(path)]) == (0 if same else 1)
    told = capsys.readouterr()
    assert ("does not start as often" in told.err) is not same and "cold starts" in told.out
    kept = json.loads(path.read_text())
    assert kept["kind"] == "simulate_validation" and kept["environment"]["cpu"] and kept["real"]["n"] == 2


def test_what_keeps_it_from_running_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    assert main(["simulate", "--validate", "--window", "1", "--out", str(path)]) == 1
    assert "simulate failed: a window of 1 s is too short" in capsys.readouterr().err and not path.exists()
