"""Runs that a page starts and shows: real bench processes, recorded and loaded files, and what is none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bench.coldstart.result_file import ResultError, load_result
from bench.results.record import RUNS
from serving.errors import BadValueError, NotFoundError
from tests.support.engines import EngineProcess
from ui.coldstart import tab
from ui.core import bench_runs
from ui.core.bench_runs import BenchRun, BenchRuns

RECORDED_RUN = RUNS / "cold_start_results_builtin.json"


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[BenchRuns]:
    runs = BenchRuns(tmp_path / "data")
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("engine"), "plain", "--scaledown-window", "3600") as engine:
        yield engine


def begun(runs: BenchRuns, engine: EngineProcess, *more: str) -> BenchRun:
    url = engine.wait()
    admin = {"DORMOUSE_ADMIN_KEY": engine.admin["X-Admin-Key"]}
    return runs.start("local", ["--url", url, "--num-warmup", "1", *more], admin)


def until(told: Any, wanted: Any) -> None:
    ends = time.monotonic() + 60
    while not wanted(told()):
        assert time.monotonic() < ends, told()
        time.sleep(0.05)


def test_recorded_runs_are_there_from_the_first_moment(runs: BenchRuns) -> None:
    assert ("builtin" in [name for _, name in runs.list_choices()]) and "stored run" in runs.list_choices()[-1][0]
    assert runs.load("builtin").summary.plain_over_restored
    assert runs.as_json("builtin")["state"] == "done"


def test_a_run_is_a_file_that_grows(runs: BenchRuns, engine: EngineProcess) -> None:
    running = begun(runs, engine, "--repetitions", "2", "--test-scaledown")
    with pytest.raises(BadValueError, match="going on"):
        begun(runs, engine)
    until(lambda: runs.as_json(running.id), lambda told: told["state"] != "running")
    told = runs.as_json(running.id)
    assert told["state"] == "done" and len(told["result"]["samples"]) == 6, running.last_lines(20)
    assert sum(sample["verified"] and sample["kind"] != "warm" for sample in told["result"]["samples"]) == 4
    assert runs.list_choices()[0][1] == running.id
    assert "stopped" not in runs.list_choices()[0][0]
    begun(runs, engine, "--repetitions", "1").stop()


@pytest.mark.soak
def test_a_stopped_run_keeps_what_it_measured(runs: BenchRuns, engine: EngineProcess) -> None:
    running = begun(runs, engine, "--repetitions", "1000")
    until(lambda: runs.as_json(running.id)["result"], bool)
    running.stop()
    running.stop()
    assert running.process.wait(30) == 130
    told = runs.as_json(running.id)
    assert told["state"] == "stopped" and told["result"]["samples"] and not told["result"]["complete"]
    assert runs.list_choices()[0][0].endswith("stopped")


@pytest.mark.soak
def test_a_run_of_a_page_in_the_background_can_be_stopped(runs: BenchRuns, engine: EngineProcess) -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts behind `&`
    try:
        running = begun(runs, engine, "--repetitions", "1000")
    finally:
        signal.signal(signal.SIGINT, former)
    until(lambda: runs.as_json(running.id)["result"], bool)
    running.stop()
    assert running.process.wait(30) == 130


@pytest.mark.soak
def test_runs_end_with_the_page_and_take_their_engines_along(tmp_path: Path) -> None:
    runs = BenchRuns(tmp_path)
    words = ["--snapshots", "plain", "--repetitions", "1000"]
    running = runs.start("local", words, {})
    until(lambda: running.last_lines(9), lambda lines: any("starting an engine" in line for line in lines))
    until(lambda: psutil.Process(running.process.pid).children(recursive=True), bool)
    children = psutil.Process(running.process.pid).children(recursive=True)
    runs.close()
    assert running.process.returncode == 130
    gone, alive = psutil.wait_procs(children, 10)
    assert gone and not alive


def test_a_run_that_does_not_end_is_killed(runs: BenchRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_runs, "STOP_S", 0.1)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    runs._running["local"] = BenchRun("stuck", tmp_path / "log", process)
    runs.close()
    assert process.returncode == -signal.SIGKILL


def test_a_run_that_the_system_cannot_kill_does_not_hold_the_page(runs: BenchRuns, tmp_path: Path) -> None:
    """A process that waits in the kernel; none can be made for a test, so a double says what its waits were given."""
    waits: list[float] = []

    def wait(timeout: float) -> int:
        waits.append(timeout)
        raise subprocess.TimeoutExpired("bench", timeout)

    process: Any = SimpleNamespace(stdin=None, wait=wait, kill=lambda: waits.append(0.0), poll=lambda: None)
    runs._running["local"] = BenchRun("stuck", tmp_path / "log", process)
    runs.close()
    assert waits == [bench_runs.STOP_S, 0.0, bench_runs.KILL_S]
    del runs._running["local"]


def test_a_run_that_cannot_be_says_why(runs: BenchRuns) -> None:
    running = runs.start("local", ["--url", "http://127.0.0.1:9"], {})
    assert running.process.wait(30) == 1
    assert "nothing answers" in running.last_lines(5)[-1]
    service: Any = SimpleNamespace(runs=runs)
    assert "nothing answers" in tab.render_progress(service, running)
    with pytest.raises(NotFoundError):
        runs.load(running.id)
    assert runs.as_json(running.id) == {"run": running.id, "state": "failed", "result": None}


def test_loaded_files_are_checked_and_copied(runs: BenchRuns, tmp_path: Path) -> None:
    before = len(runs.list_choices())
    name = runs.add_file(RECORDED_RUN)
    assert runs.result_path(name) != RECORDED_RUN and load_result(runs.result_path(name)) == load_result(RECORDED_RUN)
    broken = tmp_path / "broken.json"
    for content, why in (
        (b"{", "not a whole JSON file"),
        (b"{}", "not a result"),
        (json.dumps({"kind": "cold_start", "schema_version": 99}).encode(), "newer release"),
        (b" " * (16 * 2**20 + 1), "larger than 16 MiB"),
    ):
        broken.write_bytes(content)
        with pytest.raises(ResultError, match=why) as told:
            runs.add_file(broken)
        assert str(tmp_path) not in str(told.value)
    assert len(runs.list_choices()) == before + 1


@pytest.mark.parametrize("name", ["", "..", "../builtin", "builtin/../builtin", "nobody", "a" * 200, "builtin\0"])
def test_no_other_file_is_a_run(runs: BenchRuns, name: str) -> None:
    with pytest.raises(NotFoundError):
        runs.result_path(name)


def test_a_file_that_was_damaged_is_told_as_such(runs: BenchRuns) -> None:
    name = runs.add_file(RECORDED_RUN)
    runs.result_path(name).write_bytes(RECORDED_RUN.read_bytes()[:5000])
    assert "cannot be read" in runs.list_choices()[0][0]
