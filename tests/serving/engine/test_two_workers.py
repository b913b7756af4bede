"""Two workers of one engine, as real processes; the embedder is scripted so that a load lasts."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.support.engines import EngineProcess, have_ended, is_right, kind
from tests.support.scripted_engine import RESTORED, script

pytestmark = pytest.mark.soak
TWO = ("--workers", "2")


class Load:
    """So many clients that ask one question after the other, and what they were answered."""

    def __init__(self, engine: EngineProcess, clients: int) -> None:
        self.engine = engine
        self.answers: list[requests.Response] = []
        self.broken: list[Exception] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._stopping.is_set():
            try:
                self.answers.append(self.engine.ask())
            except requests.RequestException as error:
                self.broken.append(error)
                return

    def list_boots(self) -> set[str]:
        return {answer.headers["X-Boot-Id"] for answer in self.answers if answer.ok}

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join()


def list_states(engine: EngineProcess) -> list[str]:
    return [worker["state"] for worker in engine.status()["workers"]]


def wait_for_two(engine: EngineProcess) -> list[psutil.Process]:
    """Return the processes that serve, once there are two: one that was just killed may still be told of."""
    alive: list[psutil.Process] = []

    def are_two(told: dict[str, Any]) -> bool:
        alive.clear()
        serving = [worker["worker_pid"] for worker in told["workers"] if worker["state"] == "serving"]
        with contextlib.suppress(psutil.NoSuchProcess):
            alive.extend(find_last(psutil.Process(pid)) for pid in serving)
            return len(alive) == 2 and all(process.status() != psutil.STATUS_ZOMBIE for process in alive)
        return False

    engine.until(are_two)
    return alive


def find_last(process: psutil.Process) -> psutil.Process:
    """Return the process that serves: criu's is the last of a tree."""
    return next(each for each in [process, *process.children(recursive=True)] if not each.children())


def test_a_second_one_comes_under_load_and_goes_first(tmp_path: Path, backend: str) -> None:
    script(tmp_path, embed_s=0.2)
    with EngineProcess(tmp_path, backend, *TWO, "--scaledown-window", "3") as engine:
        with Load(engine, 12).running() as load:
            wait_for_two(engine)
            before = len(load.answers)
            engine.until(lambda told: all(worker["in_flight"] > 1 for worker in told["workers"]))
        assert len(load.answers) > before and not load.broken and all(map(is_right, load.answers))
        assert len(load.list_boots()) == 2
        kinds = [row["kind"] for row in engine.status()["history"]][::-1]
        assert kinds == ["created", "created" if backend == "fork" else "restored"], "a template is its worker's own"
        ends = time.monotonic() + 20
        while list_states(engine) != ["serving", "zero"]:
            assert is_right(engine.ask()) and time.monotonic() < ends
            time.sleep(0.3)
        engine.until(lambda told: [worker["state"] for worker in told["workers"]] == ["zero"] * 2)
        assert engine.family() == [] or backend == "fork"


def test_one_killed_under_load_costs_its_own_requests(tmp_path: Path, backend: str) -> None:
    script(tmp_path, embed_s=0.2)
    with EngineProcess(tmp_path, backend, *TWO) as engine:
        with Load(engine, 12).running() as load:
            first, second = wait_for_two(engine)
            time.sleep(0.5)
            first.kill()
            assert have_ended([first])
            time.sleep(1)
            assert second.is_running(), "the other one serves on"
            wait_for_two(engine)
            time.sleep(1)
        failed = [answer for answer in load.answers if not answer.ok]
        assert not load.broken and {answer.status_code for answer in failed} <= {503}
        assert len(failed) < 12, "those that the other one had are answered"
        assert all(is_right(answer) for answer in load.answers if answer.ok) and len(load.list_boots()) == 3


def test_both_killed_under_load_come_back(tmp_path: Path, backend: str) -> None:
    script(tmp_path, embed_s=0.2)
    with EngineProcess(tmp_path, backend, *TWO) as engine:
        with Load(engine, 12).running() as load:
            for process in (both := wait_for_two(engine)):
                process.kill()
            assert have_ended(both)
            wait_for_two(engine)
        assert not load.broken and {answer.status_code for answer in load.answers} <= {200, 503}
        assert is_right(engine.ask()) and engine.status()["failures"] == {}


def test_a_second_one_that_computes_something_else_never_serves(tmp_path: Path) -> None:
    """Its snapshot is discarded, it starts in full, and the first one answers meanwhile."""
    with EngineProcess(tmp_path, "fork", *TWO) as engine:
        assert is_right(engine.ask())
        script(tmp_path, embed_s=0.2, **{RESTORED: {"shift": 0.1}})
        with Load(engine, 12).running() as load:
            wait_for_two(engine)
            time.sleep(1)
        assert not load.broken and all(map(is_right, load.answers))
        assert engine.status()["failures"] == {"fork restore": 1}
        assert {kind(answer) for answer in load.answers} == {"created", "plain"}


def test_a_stop_while_both_are_busy_finishes_what_they_have(tmp_path: Path, backend: str) -> None:
    script(tmp_path, embed_s=1.0)
    with EngineProcess(tmp_path, backend, *TWO) as engine:
        with Load(engine, 16).running() as load:
            processes = wait_for_two(engine)
            engine.until(lambda told: all(worker["in_flight"] > 2 for worker in told["workers"]))
            assert engine.stop() == 0 and have_ended(processes)
        assert all(is_right(answer) for answer in load.answers if answer.ok)
        assert {answer.status_code for answer in load.answers} <= {200, 503}


def test_an_engine_killed_leaves_none_of_them(tmp_path: Path, backend: str) -> None:
    script(tmp_path, embed_s=0.2)
    with EngineProcess(tmp_path, backend, *TWO) as engine, Load(engine, 12).running():
        wait_for_two(engine)
        family = engine.family()
        engine.kill()
        assert not psutil.wait_procs(family, timeout=10)[1]


def test_metrics_say_whose_they_are(tmp_path: Path) -> None:
    script(tmp_path, embed_s=0.2)
    with EngineProcess(tmp_path, "fork", *TWO) as engine, Load(engine, 12).running():
        wait_for_two(engine)
        text = requests.get(engine.wait() + "/metrics", timeout=10).text
        assert "dormouse_engine_worker_up 2.0" in text
        assert 'worker="0"' in text and 'worker="1"' in text
        names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(names) == len(set(names)), "each metric once, as the format wants it"


def test_all_are_scaled_down_and_rebuilt_together(tmp_path: Path, backend: str) -> None:
    script(tmp_path, embed_s=0.2)
    with EngineProcess(tmp_path, backend, *TWO) as engine:
        with Load(engine, 12).running():
            wait_for_two(engine)
        engine.to_zero()
        assert list_states(engine) == ["zero", "zero"]
        rebuilt = requests.post(engine.wait() + "/engine/rebuild", headers=engine.admin, timeout=40)
        assert rebuilt.ok and engine.status()["next"]["kind"] == "created"
        assert kind(engine.ask()) == "created"
