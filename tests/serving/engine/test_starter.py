from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from serving.engine.engine import Engine
from serving.engine.runtime_dir import locate_runtime_dir
from serving.engine.status import describe_engine
from serving.errors import NotReadyError
from tests.support.doubles import Bench, HandClock, ask, with_engine
from tests.support.engines import EngineProcess, have_ended, is_right, kind
from tests.support.scripted_engine import script


def test_a_restore_that_fails_costs_time_and_no_answer(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        engine.scale_down()
        await engine.wait_for_state("zero")
        bench.restore_fails = "scripted: no such file"
        await ask(engine)
        assert bench.kinds == ["created", "plain"] and bench.discarded == 1
        told = describe_engine(engine)
        assert told["fallbacks"] == 1 and told["failures"] == {"double restore": 1} and not told["disabled"]
        assert "no such file" in told["last_start"]["reason"] and told["last_start"]["kind"] == "plain"
        bench.restore_fails = ""
        for expected in ("created", "restored"):
            engine.scale_down()
            await engine.wait_for_state("zero")
            await ask(engine)
            assert bench.kinds[-1] == expected

    with_engine(test, tmp_path)


def test_two_failures_in_a_row_disable_the_backend_until_it_is_rebuilt(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.restore_fails = "scripted"
        for _ in range(3):
            await ask(engine)
            engine.scale_down()
            await engine.wait_for_state("zero")
        assert bench.kinds == ["plain"] * 3 and bench.created == 2, "not tried a third time"
        assert "2 failures in a row" in describe_engine(engine)["disabled"] and engine.starter.next_kind == "plain"
        bench.restore_fails = ""
        await engine.scale_down(rebuild=True)
        await ask(engine)
        assert bench.kinds[-1] == "created" and describe_engine(engine)["disabled"] == ""

    with_engine(test, tmp_path)


@pytest.mark.parametrize("after", [[[0.8, 0.6]], [[0.6, float("nan")]], [], [[0.0, 0.0]], [[0.6, 0.8, 0.0]]])
def test_a_wrong_probe_never_serves(tmp_path: Path, after: list[list[float]]) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        engine.scale_down()
        await engine.wait_for_state("zero")
        bench.probe_after = after
        used = await ask(engine)
        assert bench.kinds == ["created", "restored", "plain"] and bench.handles[1].stopped
        assert used == bench.handles[2].launch_answer["boot_id"] and bench.discarded == 1
        assert "probe" in describe_engine(engine)["last_start"]["reason"]

    with_engine(test, tmp_path)


def test_an_embedder_whose_probe_is_not_finite_does_not_serve(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.probe = [[float("nan"), 1.0]]
        with pytest.raises(NotReadyError, match="not finite"):
            await ask(engine)
        assert engine.state == "failed"

    with_engine(test, tmp_path)
    with_engine(test, tmp_path, backend=False)


def test_a_snapshot_that_cannot_be_made_is_a_plain_start(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.create_fails = "No space left on device"
        await ask(engine)
        assert bench.kinds == ["plain"] and describe_engine(engine)["failures"] == {"double snapshot": 1}

    with_engine(test, tmp_path)


@pytest.mark.parametrize("wrong", ["find", "create", "restore", "probe"])
def test_a_backend_that_breaks_is_a_plain_start_and_leaves_no_worker(tmp_path: Path, wrong: str) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        backend = engine.starter.choice.backend
        assert backend is not None
        if wrong == "probe":
            bench.probe_after = [["not a number"]]  # type: ignore[list-item]
        else:

            async def broken(*_: object) -> None:
                raise KeyError("scripted")

            setattr(backend, wrong, broken)
        expected = "created" if wrong == "find" else "plain"
        await ask(engine)
        assert bench.kinds[-1] == expected
        assert sum(not handle.stopped for handle in bench.handles) == 1

    with_engine(test, tmp_path)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"exit": signal.SIGSEGV}, "ended while it started"),
        ({"hang": True}, "did not answer within 1 s"),
        ({"shift": 0.001}, "differ from those before"),
        ({"shift": float("nan")}, "not finite"),
    ],
)
def test_restores_that_fail_are_answered_by_a_plain_start(
    tmp_path: Path, backend: str, told: dict[str, object], reason: str
) -> None:
    with EngineProcess(tmp_path, backend, DORMOUSE_RESTORE_TIMEOUT_S="1") as engine:
        assert kind(engine.ask()) == "created"
        engine.to_zero()
        script(tmp_path, restored=told)
        answer = engine.ask()
        assert is_right(answer) and kind(answer) == "plain"
        found = engine.status()
        assert found["fallbacks"] == 1 and reason in found["last_start"]["reason"] and found["snapshot"] is None
        assert len(engine.family()) == 1, "nothing of the failed restore is left"
        engine.to_zero()
        answer = engine.ask()  # the new snapshot's own first restore fails too: that was the second in a row
        assert is_right(answer) and kind(answer) == "plain"
        assert reason in engine.status()["disabled"]
        metrics = requests.get(engine.wait() + "/metrics", timeout=5).text
        assert f'snapshot_failures_total{{backend="{backend}",what="restore"}} 2.0' in metrics
        assert "dormouse_engine_backend_disabled 1.0" in metrics and "dormouse_answers_total" in metrics
        script(tmp_path)
        rebuilt = requests.post(engine.wait() + "/engine/rebuild", headers=engine.admin, timeout=40)
        assert rebuilt.json() == {"status": "zero"}
        assert kind(engine.ask()) == "created"
    assert "log" not in str(list(locate_runtime_dir(tmp_path).iterdir()))


@pytest.mark.soak
def test_embedder_that_does_not_start_is_told(tmp_path: Path, backend: str) -> None:
    script(tmp_path, fail_load="scripted: the model file is damaged, reinstall")
    with EngineProcess(tmp_path, backend) as engine:
        answer = engine.ask()
        assert answer.status_code == 503 and "damaged, reinstall" in answer.json()["error"]["message"]
        assert requests.get(engine.wait() + "/ready", timeout=5).status_code == 503
        assert engine.status()["state"] == "failed"
        script(tmp_path, exit_load=signal.SIGKILL)
        engine.until(lambda told: told["state"] == "zero")
        answer = engine.ask()
        assert answer.status_code == 503 and "its log has the reason" in answer.json()["error"]["message"]
        assert "ended while it started" in engine.status()["reason"]
        script(tmp_path)
        engine.until(lambda told: told["state"] == "zero")
        assert is_right(engine.ask())


@pytest.mark.soak
def test_a_hundred_first_requests_are_one_start_and_a_hundred_right_answers(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        engine.wait()
        for expected in ("created", "restored"):
            with ThreadPoolExecutor(100) as pool:
                answers = list(pool.map(lambda _: engine.ask(), range(100)))
            assert all(is_right(answer) for answer in answers)
            assert {kind(answer) for answer in answers} == {expected}
            assert len({answer.headers["X-Boot-Id"] for answer in answers}) == 1
            assert sorted(int(answer.headers["X-Boot-Requests"]) for answer in answers) == list(range(1, 101))
            engine.to_zero()
        assert len(engine.status()["history"]) == 2


@pytest.mark.soak
def test_worker_that_does_not_stop_is_killed(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend, DORMOUSE_STOP_TIMEOUT_S="0.5") as engine:
        for _ in range(2):
            assert is_right(engine.ask())
            worker = engine.worker()
            worker.suspend()
            engine.to_zero()
            assert have_ended([worker])
    engine = EngineProcess(tmp_path, backend, DORMOUSE_STOP_TIMEOUT_S="0.5")
    assert is_right(engine.ask())
    worker = engine.worker()
    worker.suspend()
    engine.terminate()
    assert have_ended([worker]) and engine.stop() == 0 and "Traceback" not in engine.tail
