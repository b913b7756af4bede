"""A server that binds, prints when it answers, and finishes its requests at the end: the engine's and the page's."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn

from serving.system.processes import handle_signals

READY = " is ready at "
"""Between name and address in the line that a server prints once it answers; `child_server` waits for it."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket: early clients wait, and a port in use raises OSError before a model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def parse_port(text: str) -> int:
    """Return a port from the command line. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def format_address(listener: socket.socket) -> str:
    """Return the URL at which a socket listens."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """A server that prints when it answers, and exits 0 after a signal (uvicorn's own raises it again)."""

    def __init__(
        self, config: uvicorn.Config, name: str, url: str, before_stop: Callable[[], None] = lambda: None
    ) -> None:
        """`before_stop` is called on the event loop when a shutdown begins: it ends responses that never end."""
        super().__init__(config)
        self._greeting = f"{name}{READY}{url}"
        self._before_stop = before_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        try:
            sys.stdout.write(f"{self._greeting}\n")
            sys.stdout.flush()
        except OSError:  # whoever read it has gone; Python writes at its end what is still buffered
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._before_stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with handle_signals(self.handle_exit):
            yield

    def stop_with_stdin(self) -> None:
        """Finish requests in flight and stop when the process at the other end of standard input has ended."""

        def wait() -> None:
            # Not sys.stdin: its lock, held by this thread at exit, would end the interpreter with an abort.
            with contextlib.suppress(OSError):
                while os.read(0, 65536):
                    pass
            self.should_exit = True

        threading.Thread(target=wait, name="stdin", daemon=True).start()
