"""A door in front of an embedding server that holds each question for as long as a start would take."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

CHUNK = 65_536


class SlowDoor:
    """Passes on all that comes to a port of this machine, a POST after a while. The server behind it is real."""

    def __init__(self, port: int, seconds: float) -> None:
        self.seconds = seconds
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="slow-door")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> SlowDoor:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closing.set()
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        passing = []
        with suppress(OSError):
            while not self._closing.is_set():
                client, _ = self._listener.accept()
                passing.append(threading.Thread(target=self._serve, args=[client]))
                passing[-1].start()
        for thread in passing:
            thread.join()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._behind)) as server:
            self._open |= {client, server}
            back = threading.Thread(target=self._pass_on, args=[server, client])
            back.start()
            self._pass_on(client, server, is_asked=True)
            back.join()
            self._open -= {client, server}

    def _pass_on(self, source: socket.socket, target: socket.socket, *, is_asked: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if is_asked and data.startswith(b"POST"):
                    self._closing.wait(self.seconds)
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
