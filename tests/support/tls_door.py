"""TLS in front of a PostgreSQL, as a server does it that is built with it: that of the wheel is not.

A double of that part of a server. The client, its certificates and what it refuses are real.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
"""How a client asks whether a server has TLS; "S" is yes."""


class TlsDoor:
    """Leads to a port of this machine. Close it in the end."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        """Let nobody pass before `context`, the server's certificate, has been shown."""
        self._behind, self._context = port, context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._wait(asyncio.start_server(self._open, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.passed = 0

    def _wait(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = writer.transport
        writers = [writer]
        try:
            assert await reader.readexactly(8) == REQUEST
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            self.passed += 1
            source, target = await asyncio.open_connection("127.0.0.1", self._behind)
            writers.append(target)
            await asyncio.gather(pump(reader, target), pump(source, writer))
        except (OSError, asyncio.IncompleteReadError):  # a client that refuses the certificate
            pass
        finally:
            for each in (raw, *(one.transport for one in writers)):
                each.abort()
            await asyncio.sleep(0)  # they close in the loop's next turn


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    with suppress(OSError):
        target.close()
