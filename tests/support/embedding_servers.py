"""HTTP servers that behave as told, one behaviour for each request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[[BaseHTTPRequestHandler], None]
GOOD = json.dumps({"embeddings": [[0.6, 0.8]]}).encode()


def answer(status: int = 200, content: bytes = GOOD, **headers: str) -> Behaviour:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return behave


@contextmanager
def server(*behaviours: Behaviour) -> Iterator[tuple[str, list[bytes]]]:
    """Behaves in turn, and as the last one from then on; its address, and the bodies it got."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                behaviours[min(len(bodies), len(behaviours)) - 1](self)
            except OSError:
                self.close_connection = True

        def do_GET(self) -> None:
            answer()(self)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{found.server_address[1]}", bodies
        finally:
            found.shutdown()
            thread.join()


def ours(boot: str = "b1", kind: str = "plain", requests: str = "1", **more: str) -> Behaviour:
    return answer(X_Boot_Id=boot, X_Start_Kind=kind, X_Boot_Requests=requests, **more)
