"""A proxy in front of a server that cuts its connections, or loses the answer to what a client has asked."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

AT_ONCE = struct.pack("ii", 1, 0)
"""With SO_LINGER: both ends see a reset."""


class CuttingProxy:
    """Of a port of this machine. Close it in the end."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.last_word = b""
        """What a client says last: whoever says it hears nothing more."""
        self.lost = threading.Event()
        """Set when an answer was lost."""
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut all connections there are."""
        cut, self._sockets = self._sockets, []
        for each in cut:
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._behind))
                self._sockets += [client, server]
                deaf = threading.Event()
                for source, target in ((client, server), (server, client)):
                    pump = (source, target, deaf, source is client)
                    threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, deaf: threading.Event, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if asks and self.last_word and self.last_word in data:
                    deaf.set()
                if asks or not deaf.is_set():
                    target.sendall(data)
                else:
                    self.lost.set()
            target.shutdown(socket.SHUT_WR)
