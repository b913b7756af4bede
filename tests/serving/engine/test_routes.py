from __future__ import annotations

import asyncio
import json
import socket
import threading
from pathlib import Path

import httpx
import pytest
import requests

from serving.engine import routes
from serving.engine.engine import Engine
from serving.engine.pool import WorkerPool
from serving.engine.routes import create_routes
from tests.support.doubles import Bench, HandClock, ask, with_engine
from tests.support.engines import EngineProcess, is_right
from tests.support.scripted import Scripted
from tests.support.scripted_engine import script


def test_engine_routes_need_the_admin_key(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "plain") as engine:
        url = engine.wait()
        for method, path in (
            ("GET", "/engine"), ("GET", "/engine/events"), ("POST", "/engine/scaledown"), ("POST", "/engine/rebuild"),
            ("POST", "/scaledown"), ("POST", "/sleep"), ("POST", "/wake_up"),
        ):  # fmt: skip
            for headers in ({}, {"X-Admin-Key": "wrong"}, {"Authorization": f"Bearer {engine.admin['X-Admin-Key']}"}):
                answer = requests.request(method, url + path, headers=headers, timeout=5)
                assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_admin_key"
        assert engine.status()["state"] == "zero"


def test_everything_but_embedding_is_answered_at_zero(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "plain") as engine:
        url = engine.wait()
        assert requests.get(url, timeout=5).json()["model"] == "scripted"
        assert requests.get(url + "/health", timeout=5).json() == {"status": "alive"}
        assert requests.get(url + "/ready", timeout=5).json() == {"status": "ready"}
        assert requests.get(url + "/v1/models", timeout=5).json()["data"][0]["id"] == "scripted"
        assert "dormouse_engine_worker_up 0.0" in requests.get(url + "/metrics", timeout=5).text
        for path, status in (("/docs", 404), ("/engine/x", 404), ("/embed/", 404)):
            assert requests.get(url + path, timeout=5).status_code == status
        assert requests.get(url + "/embed", timeout=5).status_code == 405
        assert requests.post(url + "/health", timeout=5).status_code == 405
        assert requests.post(url + "/embed", json={}, headers={"Host": "evil.example"}, timeout=5).status_code == 401
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=5) as raw:
            head = "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            raw.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
            assert b" 413 " in raw.recv(64)
        assert engine.status()["state"] == "zero" and engine.status()["history"] == []
        woken = requests.post(url + "/wake_up", headers=engine.admin, timeout=30)
        assert woken.json() == {"status": "serving"}
        assert requests.get(url + "/ready", timeout=5).json() == {"status": "ready"}
        assert engine.ask().headers["X-Boot-Requests"] == "1", "only embedding requests count"
        slept = requests.post(url + "/sleep?level=1", headers=engine.admin, timeout=30)
        assert slept.json() == {"status": "zero"}


@pytest.mark.soak
def test_events_tell_each_state_as_it_comes(tmp_path: Path, backend: str) -> None:
    script(tmp_path, load_s=0.3)
    with EngineProcess(tmp_path, backend, "--scaledown-window", "2") as engine:
        seen: list[str] = []
        ready = threading.Event()

        def watch() -> None:
            for told in engine.events():
                ready.set()
                if not seen or seen[-1] != told["state"]:
                    seen.append(told["state"])
                if seen[-1] == "zero" and "serving" in seen:
                    return

        watching = threading.Thread(target=watch)
        watching.start()
        assert ready.wait(10)
        assert is_right(engine.ask())
        watching.join(20)
        assert not watching.is_alive()
        assert seen[:2] == ["zero", "starting"] and seen[-1] == "zero" and "serving" in seen


@pytest.mark.soak
def test_rebuild_under_traffic(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        assert is_right(engine.ask())
        stopped = threading.Event()
        answers: list[requests.Response] = []

        def traffic() -> None:
            while not stopped.is_set():
                answers.append(engine.ask())

        asking = [threading.Thread(target=traffic) for _ in range(4)]
        for thread in asking:
            thread.start()
        for _ in range(3):
            rebuilt = requests.post(engine.wait() + "/engine/rebuild", headers=engine.admin, timeout=40)
            assert rebuilt.ok and rebuilt.elapsed.total_seconds() < 20
        stopped.set()
        for thread in asking:
            thread.join()
        assert all(is_right(answer) for answer in answers)
        assert [row["kind"] for row in engine.status()["history"]].count("created") >= 3
        assert engine.status()["failures"] == {}


def test_answers_hold_no_path(tmp_path: Path, backend: str) -> None:
    script(tmp_path, missing_file="/root/.cache/secret-place/model.onnx")
    with EngineProcess(tmp_path, backend) as engine:
        answer = engine.ask()
        assert answer.status_code == 503 and "secret-place" not in answer.text and str(tmp_path) not in answer.text
        assert "secret-place" in engine.status()["reason"]


def client_of(engine: Engine) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_routes(WorkerPool([engine], 1), Scripted()))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=20)


def test_what_the_engine_answers_in_each_state(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        async with client_of(engine) as client:
            assert (await client.get("/")).json()["model"] == "scripted"
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "scripted"
            assert (await client.get("/health")).json() == {"status": "alive"}
            bench.plain_fails = bench.create_fails = "the model is damaged"
            failed = await client.post("/wake_up")
            assert failed.status_code == 503 and "the model is damaged" in failed.json()["error"]["message"]
            not_ready = await client.get("/ready")
            assert not_ready.json() == {"status": "failed"} and not_ready.headers["Retry-After"] == "1"
            bench.plain_fails = bench.create_fails = ""
            clock.advance(60)
            await engine.wait_for_state("zero")
            assert (await client.post("/wake_up")).json() == {"status": "serving"}
            assert (await client.post("/wake_up?workers=1")).json() == {"status": "serving"}
            for count in ("2", "0", "-1", "many", "", "²", "9" * 5000):
                refused = await client.post("/wake_up", params={"workers": count})
                assert refused.status_code == 400 and "from 1 to 1" in refused.json()["error"]["message"]
            assert (await client.get("/engine")).json()["state"] == "serving"
            assert "dormouse_engine_starts_total" in (await client.get("/metrics")).text
            assert (await client.post("/sleep?level=3")).status_code == 400
            assert (await client.post("/sleep?level=2")).json() == {"status": "zero"}
            assert (await client.post("/engine/rebuild")).json() == {"status": "zero"}
            assert (await client.get("/scaledown")).status_code == 405
            assert (await client.get("/nothing")).status_code == (await client.get("/engine/")).status_code == 404

    with_engine(test, tmp_path)


def test_rebuild_deletes_the_snapshot_and_scaledown_keeps_it(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        async with client_of(engine) as client:
            for path in ("/scaledown", "/engine/scaledown"):
                await client.post(path)
                assert bench.discarded == 0 and engine.starter.snapshot is not None
            await client.post("/engine/rebuild")
            assert bench.discarded == 1 and engine.starter.snapshot is None

    with_engine(test, tmp_path)


def test_events_begin_with_the_state_and_end_with_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "HEARTBEAT_S", 0.2)

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        async with client_of(engine) as client:
            asking = asyncio.create_task(client.get("/engine/events"))
            await asyncio.sleep(0.5)  # two heartbeats
            await ask(engine)
            await asyncio.sleep(0.1)
            engine.announce_stop()
            events = (await asking).text.split("\n\n")
        states = [json.loads(event.partition("data: ")[2])["state"] for event in events if event.startswith("event: ")]
        assert states == ["zero", "zero", "serving"], "a request waits; what follows within 50 ms is one event"
        assert 1 <= events.count(": nothing new") <= 3

    with_engine(test, tmp_path)
