"""The life of a worker where the platform saves containers; without a platform: the calls are made here."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from serving.cloud import worker_lifecycle
from serving.cloud.worker_lifecycle import SNAPSHOTS, TASK, ContainerLifecycle, LifecycleError, classify_start
from serving.embedders.base import Vectors
from serving.embedders.bigemma3 import download
from serving.embedders.gpu.weight_arena import WeightsError
from serving.errors import ServingError, UnauthorizedError
from serving.settings import Settings
from tests.support.scripted import Scripted
from tests.support.servers import listening

NAME = "tests.serving.cloud.test_worker_lifecycle:Told"
ADMIN = {"X-Admin-Key": "admin"}


class Told(Scripted):
    """Writes down what it is asked for. What is to go wrong is told by name: `<call>-<how often before>`."""

    made: list[Told]
    log: list[str]
    wrong: dict[str, Any]

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.made.append(self)

    def tell(self, call: str) -> Any:
        wrong = self.wrong.get(f"{call}-{self.log.count(call)}")
        self.log.append(call)
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    def load(self) -> None:
        self.tell("load")

    def warm_up(self) -> None:
        self.tell("warm_up")

    def sleep(self) -> None:
        self.tell("sleep")

    def wake(self) -> None:
        time.sleep(self.tell("wake") or 0)

    def close(self) -> None:
        self.tell("close")

    def probe(self) -> Vectors:
        vectors = super().probe()
        return np.asarray(vectors + np.float32(self.tell("probe") or 0))


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Told]]:
    Told.made, Told.log, Told.wrong = [], [], {}
    monkeypatch.setenv("DORMOUSE_DATA", str(tmp_path))
    monkeypatch.setenv("DORMOUSE_API_KEYS", "first")
    monkeypatch.setenv("DORMOUSE_ADMIN_KEY", "admin")
    monkeypatch.setenv(SNAPSHOTS, "1")
    monkeypatch.setenv(TASK, "task-of-the-snapshot")
    for name in download.OFFLINE:
        monkeypatch.setenv(name, "1")
    before, ours = signal.getsignal(signal.SIGTERM), logging.getLogger("serving")
    yield Told
    signal.signal(signal.SIGTERM, before)
    ours.handlers, ours.propagate = [], True
    gc.unfreeze()


def prepared(**more: Any) -> ContainerLifecycle:
    lifecycle = ContainerLifecycle(NAME, **more)
    lifecycle.prepare()
    return lifecycle


def restored(lifecycle: ContainerLifecycle, task: str = "task-of-a-restore") -> ContainerLifecycle:
    os.environ[TASK] = task  # the fixture puts it back
    lifecycle.begin()
    return lifecycle


def ask(url: str, key: str = "first", **headers: str) -> requests.Response:
    headers["Authorization"] = f"Bearer {key}"
    return requests.post(f"{url}/embed", json={"texts": ["a"]}, headers=headers, timeout=30)


# What happens when


def test_everything_that_takes_long_is_in_the_snapshot(told: type[Told]) -> None:
    kept: list[list[str]] = []

    def files() -> None:
        kept.append(list(told.log))

    lifecycle = prepared(sleeps=True, restore_files=files, keep_files=files)
    assert told.log == ["load", "warm_up", "probe", "sleep"]
    assert kept == [[], ["load", "warm_up", "probe"]], "there before anything compiles, kept when all has"
    restored(lifecycle)
    assert told.log[4:] == ["wake", "probe"]
    lifecycle.end()
    assert told.log[6:] == ["close"]


def test_the_app_is_made_before_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle = prepared()
    app = lifecycle.app
    monkeypatch.delattr(worker_lifecycle, "create_app")
    assert restored(lifecycle).app is app


def test_an_embedder_that_need_not_sleep_is_not_woken(told: type[Told]) -> None:
    restored(prepared())
    assert told.log == ["load", "warm_up", "probe", "probe"]


def test_without_snapshots_nothing_sleeps_or_is_compared(told: type[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SNAPSHOTS)
    prepared(sleeps=True).begin()
    assert told.log == ["load", "warm_up", "probe"]


def test_who_sleeps_is_woken_whatever_the_platform_says(told: type[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle = prepared(sleeps=True)
    monkeypatch.delenv(SNAPSHOTS)
    lifecycle.begin()
    assert told.log[4:] == ["wake", "probe"] and lifecycle.worker.boot.kind == "plain"


def test_files_that_cannot_be_brought_or_kept_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError("the volume is gone")

    restored(prepared(restore_files=fail, keep_files=fail))
    told = capfd.readouterr().err
    assert "it is compiled again" in told and "later starts repeat them" in told


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, "plain"),
        ({SNAPSHOTS: "0", TASK: "a"}, "plain"),
        ({SNAPSHOTS: "1", TASK: "a"}, "created"),
        ({SNAPSHOTS: "1", TASK: "b"}, "restored"),
        ({SNAPSHOTS: "1"}, "restored"),
    ],
)
def test_start_kind(environment: dict[str, str], kind: str) -> None:
    assert classify_start(environment, "a") == kind


def test_each_life_says_what_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    lifecycle = prepared(sleeps=True)
    found: list[Any] = []
    for task in ("task-of-the-snapshot", "b", "c"):
        found.append(restored(lifecycle, task).worker.boot)
    assert [boot.kind for boot in found] == ["created", "restored", "restored"]
    assert len({boot.id for boot in found}) == 3 and {boot.tier for boot in found} == {"disk"}
    assert set(found[0].phases) == {"start", "restore", "wake", "probe"}
    assert set(found[2].phases) == {"restore", "probe"}, "it was awake already"
    logged = [
        json.loads(line.split("begins to serve: ")[1])
        for line in capfd.readouterr().err.splitlines()
        if "begins to serve" in line
    ]
    assert [(line["kind"], line["task"]) for line in logged] == [
        ("created", "task-of-the-snapshot"),
        ("restored", "b"),
        ("restored", "c"),
    ]
    assert {line["task_of_snapshot"] for line in logged} == {"task-of-the-snapshot"}


def test_answers_carry_it(told: type[Told]) -> None:
    told.wrong["wake-0"] = 0.2
    with listening(restored(prepared(sleeps=True)).app) as url:
        first, second = ask(url), ask(url)
    assert first.status_code == 200, first.text
    assert first.headers["X-Start-Kind"] == "restored" and first.headers["X-Snapshot-Tier"] == "disk"
    assert (first.headers["X-Boot-Requests"], second.headers["X-Boot-Requests"]) == ("1", "2")
    timing = dict(part.split(";dur=") for part in first.headers["Server-Timing"].split(", "))
    assert float(timing["wake"]) >= 200 and "start" not in timing and float(timing["restore"]) < float(timing["wake"])


def test_a_plain_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SNAPSHOTS)
    lifecycle = prepared()
    lifecycle.begin()
    with listening(lifecycle.app) as url:
        answer = ask(url)
    assert answer.headers["X-Start-Kind"] == "plain" and answer.headers["X-Snapshot-Tier"] == "none"
    assert "start;dur=" in answer.headers["Server-Timing"] and "restore" not in answer.headers["Server-Timing"]


def test_two_lives_draw_other_numbers() -> None:
    lifecycle = prepared()
    drawn = []
    for _ in range(2):
        random.seed(7)
        np.random.seed(7)
        restored(lifecycle)
        drawn.append((random.random(), float(np.random.random())))
    assert drawn[0][0] != drawn[1][0] and drawn[0][1] != drawn[1][1]


# Who may call


def test_keys_and_limits_are_those_of_the_life(monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle = prepared()
    monkeypatch.setenv("DORMOUSE_API_KEYS", "second")
    monkeypatch.setenv("DORMOUSE_ADMIN_KEY", "other")
    monkeypatch.setenv("DORMOUSE_MAX_TEXT_CHARS", "1")
    with listening(restored(lifecycle).app) as url:
        assert ask(url).status_code == 401 and ask(url, "second").status_code == 200
        longer = requests.post(f"{url}/embed", json={"texts": ["ab"]}, headers={"X-API-Key": "second"}, timeout=30)
        assert longer.status_code == 413
        assert requests.post(f"{url}/scaledown", headers=ADMIN, timeout=30).status_code == 401


def test_without_keys_it_does_not_start(told: type[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DORMOUSE_API_KEYS")
    with pytest.raises(UnauthorizedError, match=r"no keys.*DORMOUSE_API_KEYS.*DORMOUSE_MODAL_ACCESS=proxy"):
        prepared()
    assert told.log == []


def test_open_is_open_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DORMOUSE_API_KEYS")
    monkeypatch.setenv("DORMOUSE_OPEN_ACCESS", "True")
    with listening(restored(prepared()).app) as url:
        host = {"Host": "somebody--bigemma3-hf-serve-worker-web.modal.run"}
        assert requests.post(f"{url}/embed", json={"texts": ["a"]}, headers=host, timeout=30).status_code == 200
        assert requests.post(f"{url}/sleep", headers=host, timeout=30).status_code == 401, "not to the admin's routes"
    monkeypatch.delenv("DORMOUSE_ADMIN_KEY")
    with listening(restored(prepared()).app) as url:
        refused = requests.post(f"{url}/sleep", headers={"X-Admin-Key": ""}, timeout=30)
        assert refused.status_code == 401, "no key is no key"


def test_open_with_keys_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_OPEN_ACCESS", "True")
    with listening(restored(prepared()).app) as url:
        assert ask(url, "wrong").status_code == 401 and ask(url).status_code == 200


# What goes wrong


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("probe-1", 0.001),
        ("probe-1", 1e-6),
        ("probe-1", float("nan")),
        ("probe-1", RuntimeError("an illegal address")),
        ("wake-0", RuntimeError("an illegal address")),
        ("wake-0", 30.0),
    ],
)
def test_who_comes_back_wrong_is_started_again(
    told: type[Told], monkeypatch: pytest.MonkeyPatch, call: str, wrong: Any
) -> None:
    monkeypatch.setenv("DORMOUSE_RESTORE_TIMEOUT_S", "0.3")
    told.wrong[call] = wrong
    lifecycle = restored(prepared(sleeps=True))
    assert len(told.made) == 2 and lifecycle.worker.embedder is told.made[1]
    again = told.log.index("load", 1)
    assert {"sleep", "close"} <= set(told.log[4:again]), "the memory is free before it is needed again"
    assert told.log[again:] == ["load", "warm_up", "probe"]
    boot = lifecycle.worker.boot
    assert boot.kind == "plain" and boot.tier == "none" and "start" in boot.phases and "restore" not in boot.phases
    with listening(lifecycle.app) as url:
        answer = ask(url)
        assert answer.status_code == 200 and answer.headers["X-Start-Kind"] == "plain"
        assert answer.headers["X-Boot-Requests"] == "1"


def test_a_gpu_may_round_another_way(told: type[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "device", "cuda")
    told.wrong["probe-1"] = 1e-6
    assert restored(prepared()).worker.boot.kind == "restored"


@pytest.mark.parametrize("wrong", [RuntimeError("no memory"), ServingError("no memory")])
def test_who_cannot_be_started_again_does_not_serve(told: type[Told], wrong: Exception) -> None:
    lifecycle = prepared()
    told.wrong |= {"probe-1": 0.5, "load-1": wrong}
    with pytest.raises(LifecycleError, match=r"differ from those before.*no memory.*deploy again"):
        restored(lifecycle)
    assert told.log[-1] == "close"
    with pytest.raises(LifecycleError):
        lifecycle.app  # noqa: B018


@pytest.mark.parametrize(
    ("call", "wrong"),
    [("load-0", RuntimeError("no memory")), ("warm_up-0", RuntimeError("no memory")), ("probe-0", float("nan"))],
)
def test_who_cannot_be_prepared_leaves_nothing(told: type[Told], call: str, wrong: Any) -> None:
    told.wrong[call] = wrong
    with pytest.raises((RuntimeError, LifecycleError), match=r"no memory|not finite"):
        prepared()
    assert told.log[-1] == "close"


def test_who_cannot_sleep_leaves_nothing(told: type[Told]) -> None:
    told.wrong["sleep-0"] = RuntimeError("no memory")
    with pytest.raises(RuntimeError, match="no memory"):
        prepared(sleeps=True)
    assert told.log[-1] == "close"


def test_weights_that_cannot_be_had_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_WEIGHTS", "/nowhere/at/all")
    monkeypatch.setenv("DORMOUSE_DEVICE", "cpu")
    with pytest.raises(WeightsError, match="there is no folder /nowhere/at/all"):
        ContainerLifecycle("bigemma3").prepare()
    monkeypatch.setenv("DORMOUSE_WEIGHTS", "someone/model")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"someone/model.*hub cannot be asked.*\. Run this command"):
        ContainerLifecycle("bigemma3", advice="Run this command").prepare()


# How it stops


def test_scaledown_asks_the_platform_and_answers_at_once() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        asked.set()
        go_on.wait(100)

    with listening(restored(prepared(stop=stop)).app) as url:
        assert requests.post(f"{url}/scaledown", timeout=30).status_code == 401
        assert not asked.is_set()
        assert requests.post(f"{url}/scaledown", headers=ADMIN, timeout=30).json() == {"status": "stopping"}
        assert asked.wait(10)
        assert ask(url).status_code == 200, "what comes in meanwhile is answered"
        go_on.set()


def test_a_platform_that_does_not_take_it_is_told_of_and_nothing_breaks(capfd: pytest.CaptureFixture[str]) -> None:
    tried = threading.Event()

    def stop() -> None:
        tried.set()
        raise RuntimeError("no such task")

    with listening(restored(prepared(stop=stop)).app) as url:
        requests.post(f"{url}/scaledown", headers=ADMIN, timeout=30)
        assert tried.wait(10) and ask(url).status_code == 200
    assert "the platform did not accept the request to stop" in capfd.readouterr().err


def test_sigterm_waits_for_what_is_in_flight(told: type[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sent: list[tuple[int, int]] = []
    gone = threading.Event()
    monkeypatch.setattr(os, "kill", lambda pid, number: (sent.append((pid, number)), gone.set()))
    lifecycle = restored(prepared(stop=lambda: events.append("stop")))
    told.made[0].gate.clear()
    with listening(lifecycle.app) as url:
        client = threading.Thread(target=lambda: events.append(f"answer {ask(url).status_code}"))
        client.start()
        while not told.made[0].calls:
            time.sleep(0.01)
        handler: Any = signal.getsignal(signal.SIGTERM)
        handler(signal.SIGTERM, None)
        assert not gone.wait(1.0), "it is still at work"
        told.made[0].gate.set()
        assert gone.wait(10)
        client.join(10)
    assert events == ["stop", "answer 200"]
    assert sent == [(os.getpid(), signal.SIGINT)], "the platform's own way of ending"


def test_sigterm_does_not_wait_for_ever(told: type[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_DRAIN_S", "0.2")
    gone = threading.Event()
    monkeypatch.setattr(os, "kill", lambda *_: gone.set())
    lifecycle = restored(prepared())
    told.made[0].gate.clear()
    with listening(lifecycle.app) as url:
        client = threading.Thread(target=ask, args=(url,))
        client.start()
        while not told.made[0].calls:
            time.sleep(0.01)
        handler: Any = signal.getsignal(signal.SIGTERM)
        handler(signal.SIGTERM, None)
        assert gone.wait(10)
        told.made[0].gate.set()
        client.join(10)
