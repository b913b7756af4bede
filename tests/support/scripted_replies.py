"""HTTP servers that give prepared replies and keep what they were asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = {"embeddings": [[1.0, 0.0]], "dimension": 2, "model": "m", "fingerprint": "f"}
PROOF = {"X-Boot-Id": "b", "X-Start-Kind": "plain", "X-Boot-Requests": "1", "Server-Timing": "embed;dur=1.5"}
Reply = tuple[int, dict[str, str], object]


class Seen(list[str]):
    """Method and path of each request; `headers` in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[Message] = []


@contextmanager
def answering(*replies: Reply) -> Iterator[tuple[str, Seen]]:
    """A server that gives these answers in turn; the last one again and again."""
    queue, seen = list(replies), Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            seen.append(f"{self.command} {self.path}")
            seen.headers.append(self.headers)
            status, headers, body = queue.pop(0) if len(queue) > 1 else queue[0]
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
