from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from serving.http.client_left import ClientLeftError, run_unless_client_leaves, wait_for_disconnect
from tests.support.servers import ScriptedWorker
from tests.support.waiting import until
from tests.support.worker_requests import post


def test_client_that_leaves_is_dropped_from_the_queue(scripted: ScriptedWorker) -> None:
    scripted.embedder.gate.clear()
    busy = threading.Thread(target=post, args=[scripted.url, {"texts": ["busy"]}])
    busy.start()
    until(lambda: bool(scripted.embedder.calls))
    host, port = scripted.url.removeprefix("http://").split(":")
    body = b'{"texts": ["left before it started"]}'
    with socket.create_connection((host, int(port))) as leaving:
        head = f"POST /embed HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        leaving.sendall(head.encode() + body)
        until(lambda: scripted.worker.queries.depth == 1)
    until(lambda: scripted.worker.queries.depth == 0)
    scripted.embedder.gate.set()
    busy.join(10)
    assert post(scripted.url, {"texts": ["next"]}).status_code == 200
    assert scripted.worker.queries.counts["cancelled"] == 1
    assert all("left before it started" not in call for call in scripted.embedder.calls)


async def cancelled_into(log: list[str]) -> int:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        log.append("cancelled")
        raise
    return 0


def test_work_ends_with_its_client() -> None:
    async def test() -> None:
        log: list[str] = []
        gone = asyncio.Event()
        asking = asyncio.create_task(run_unless_client_leaves(cancelled_into(log), gone_as_none(gone)))
        await asyncio.sleep(0)
        assert not asking.done()
        gone.set()
        with pytest.raises(ClientLeftError):
            await asking
        assert log == ["cancelled"], "it has ended by then"

    asyncio.run(test())


async def gone_as_none(gone: asyncio.Event) -> None:
    await gone.wait()


def test_results_and_errors_of_work_are_passed_on() -> None:
    async def result() -> int:
        return 7

    async def error() -> int:
        raise KeyError("x")

    async def test() -> None:
        stays = asyncio.Event()
        assert await run_unless_client_leaves(result(), gone_as_none(stays)) == 7
        with pytest.raises(KeyError):
            await run_unless_client_leaves(error(), gone_as_none(stays))

    asyncio.run(test())


def test_only_a_disconnect_is_one() -> None:
    messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}, {"type": "never read"}])

    async def receive() -> dict[str, str]:
        return next(messages)

    asyncio.run(wait_for_disconnect(receive))
    assert next(messages)["type"] == "never read"
