"""The proxy in front of real workers; the embedder is scripted so that it can hang."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import httpx
import psutil
import pytest
import requests
from starlette.applications import Starlette
from starlette.types import Message

from serving.engine.engine import Engine
from serving.engine.pool import WorkerPool
from serving.engine.proxy import EngineProxy, RequestBody, WorkerWatchdog
from serving.errors import MethodNotAllowedError, NotReadyError
from serving.http.client_left import ClientLeftError
from serving.snapshots.worker_handle import WorkerHandle
from tests.support.doubles import Bench, HandClock, with_engine
from tests.support.engines import EngineProcess, have_ended, is_right, kind
from tests.support.scripted_engine import script


@pytest.mark.soak
def test_worker_killed_in_the_middle_of_a_batch(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        assert is_right(engine.ask())
        script(tmp_path, embed_s=5)
        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(engine.ask) for _ in range(3)]
            engine.until(lambda told: told["in_flight"] == 3)
            time.sleep(0.3)
            script(tmp_path)
            engine.worker().kill()
            answers = [future.result() for future in asking]
        for answer in answers:
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
            assert "ended in the middle" in answer.json()["error"]["message"]
        after = engine.ask()
        assert is_right(after) and kind(after) == "restored"


@pytest.mark.soak
def test_worker_killed_while_idle_is_not_noticed(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        for _ in range(5):
            assert is_right(engine.ask())
            worker = engine.worker()
            worker.kill()
            assert have_ended([worker])
            assert is_right(engine.ask()), "asked at once, before anybody had time to look"


@pytest.mark.soak
def test_client_that_leaves_while_it_waits(tmp_path: Path) -> None:
    script(tmp_path, load_s=2)
    with EngineProcess(tmp_path, "plain") as engine:
        engine.wait()
        for size in (10, 300_000):  # a body that is read at once, and one that stays in the socket
            text, headers = json.dumps({"texts": ["x" * size]}).encode(), {"Content-Type": "application/json"}
            with pytest.raises(requests.Timeout):
                requests.post(engine.wait() + "/embed", data=text, headers=headers, timeout=0.5)
        found = engine.until(lambda told: told["waiting"] == 0, 1)
        assert found["state"] == "starting"
        assert is_right(engine.ask()), "the start goes on, and is one"
        assert len(engine.status()["history"]) == 1
        engine.until(lambda told: told["in_flight"] == 0 and told["waiting"] == 0)


@pytest.mark.soak
def test_client_that_leaves_while_the_worker_computes(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "fork") as engine:
        assert is_right(engine.ask())
        script(tmp_path, embed_s=2)
        with pytest.raises(requests.Timeout):
            engine.ask(timeout=0.5)
        engine.until(lambda told: told["in_flight"] == 0, 1.5)


@pytest.mark.soak
@pytest.mark.parametrize("size", [1, 3_000_000])
def test_hung_worker_is_killed_and_replaced(tmp_path: Path, size: int) -> None:
    """Stopped, so that it answers nothing and takes nothing; its client is told, the next one is served."""
    with EngineProcess(tmp_path, "fork", DORMOUSE_REQUEST_TIMEOUT_S="0.5") as engine:
        assert is_right(engine.ask())
        engine.worker().suspend()
        body = {"texts": ["total due"], "ignored": "x" * size}
        answer = requests.post(engine.wait() + "/embed", json=body, timeout=40)
        assert answer.status_code == 503 and "hung" in answer.json()["error"]["message"]
        assert is_right(engine.ask())


@pytest.mark.soak
def test_a_form_of_a_web_page_wakes_nobody(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "plain") as engine:
        answer = requests.post(engine.wait() + "/embed", data='{"texts": ["a"]}', timeout=5)
        assert answer.status_code == 400 and engine.status()["state"] == "zero"
        raw = (
            b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n10\r\n"
            b'{"texts": ["a"]}\r\n0\r\n\r\n'
        )
        with socket.create_connection(("127.0.0.1", int(engine.wait().rsplit(":", 1)[1])), timeout=30) as two_lengths:
            two_lengths.sendall(raw)
            head = two_lengths.recv(4096).lower()
            assert head.split()[1] in (b"200", b"400") and head.count(b"\r\ndate:") == 1


def chunks(size: int, pause: float) -> Iterator[bytes]:
    yield b'{"texts": ["a"], "ignored": "'
    for _ in range(size):
        yield b"x" * 1_000_000
        time.sleep(pause)
    yield b'"}'


@pytest.mark.soak
def test_bodies_are_passed_on_without_being_held(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "fork") as engine:
        assert is_right(engine.ask())
        process = psutil.Process(engine.pid)
        before = process.memory_info().rss
        most = 0

        def measure() -> None:
            nonlocal most
            while not done.wait(0.01):
                most = max(most, process.memory_info().rss)

        done = threading.Event()
        measuring = threading.Thread(target=measure)
        measuring.start()
        headers = {"Content-Type": "application/json"}
        answer = requests.post(engine.wait() + "/embed", data=chunks(60, 0.0), headers=headers, timeout=60)
        done.set()
        measuring.join()
        assert answer.status_code == 200, answer.text
        assert most - before < 30_000_000, f"{(most - before) / 1e6:.0f} MB of a body of 60 MB"


def body_of(*parts: bytes, ends: bool = True) -> RequestBody:
    """A body that comes in these parts, and after which its client leaves."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if ends:
        messages[-1]["more_body"] = False

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return RequestBody(receive)


class Handle:
    """What a watchdog kills."""

    killed = 0

    def kill_now(self) -> None:
        self.killed += 1


def watchdog_of(handle: Handle, seconds: float = 60) -> WorkerWatchdog:
    return WorkerWatchdog(cast(WorkerHandle, handle), seconds)


def test_what_was_read_ahead_comes_first_and_nothing_twice() -> None:
    async def test() -> None:
        body = body_of(b"ab", b"cd", b"ef")
        await body.read_ahead(3)
        assert body.buffered_bytes == 4 and not body.ended.is_set() and not body.taken
        assert [chunk async for chunk in body.stream(watchdog_of(Handle()))] == [b"ab", b"cd", b"ef"]
        assert body.taken and body.ended.is_set() and body.buffered_bytes == 0
        await asyncio.wait_for(body.wait_until_client_left(), 5)

    asyncio.run(test())


def test_a_client_that_leaves_in_its_body_is_noticed_by_the_reader() -> None:
    async def test() -> None:
        body = body_of(b"ab", ends=False)
        with pytest.raises(ClientLeftError):
            await body.read_ahead(100)
        assert isinstance(body.failed, ClientLeftError) and not body.ended.is_set()

    asyncio.run(test())


def test_only_waiting_for_the_worker_counts() -> None:
    async def test() -> None:
        handle = Handle()
        watchdog = watchdog_of(handle, 0.1)
        for _ in range(3):
            with watchdog.running():
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)  # the client is slow
        assert not handle.killed and not watchdog.fired
        watchdog.start()
        await asyncio.sleep(0.3)
        assert handle.killed == 1 and watchdog.fired
        watchdog.stop()

    asyncio.run(test())


@pytest.mark.parametrize(("path", "method"), [("/embed", "GET"), ("/v1/embeddings", "DELETE")])
def test_other_methods_of_embedding_start_nothing(tmp_path: Path, path: str, method: str) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        proxy = EngineProxy(WorkerPool([engine], 1), Starlette())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(proxy), base_url="http://localhost") as client:
            with pytest.raises(MethodNotAllowedError):
                await client.request(method, path)
            assert (await client.get("/elsewhere")).status_code == 404, "the app behind answers"
        assert engine.state == "zero" and not bench.handles

    with_engine(test, tmp_path)


def test_a_request_whose_worker_is_gone_each_time_is_told(tmp_path: Path) -> None:
    """The doubles listen on no socket: it is tried with three workers, and nothing of the body is lost before."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        proxy = EngineProxy(WorkerPool([engine], 1), Starlette())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(proxy), base_url="http://localhost") as client:
            with pytest.raises(NotReadyError, match="ended each time"):
                await client.post("/embed", json={"texts": ["a"]})
        assert not proxy.bodies and engine.in_flight == 0
        (client,) = proxy.clients.values()
        await client.close()

    with_engine(test, tmp_path)
