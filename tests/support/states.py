"""States of an engine as `GET /engine` tells them, and servers that tell them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ui.servers.state import EngineState

NASTY = '<img src=x onerror=alert(1)>"&'
NOW = 1_800_000_000.0

RESTORED = {
    "at": NOW - 130, "backend": "criu", "kind": "restored", "outcome": "served", "reason": "",
    "phases": {"queue": 0.07, "restore": 196.6, "bind": 11.2, "probe": 27.4}, "ready_ms": 238.8,
    "first_answer_ms": 257.0,
}  # fmt: skip

CREATED = {**RESTORED, "at": NOW - 7_300, "kind": "created", "phases": {"load": 858.0}, "ready_ms": 2_974.0}


def engine(**changes: Any) -> dict[str, Any]:
    """What `GET /engine` answers: all of it, also what no browser may see."""
    return {
        "state": "zero", "since": NOW - 1, "now": NOW, "reason": "", "scaledown_at": None, "scaledown_window": 60.0,
        "min_containers": 0, "in_flight": 0, "waiting": 0, "embedder": "secret.module:Class", "backend": "criu",
        "tier": "disk", "requested": "auto", "refused": {}, "detail": {"path": "/usr/secret/criu"}, "disabled": "",
        "snapshot": {"bytes": 176_777_556, "created": NOW - 7_300, "age_s": 7_300.0, "where": "/home/secret"},
        "start": None, "next": {"kind": "restored", "expected_ms": 238.8}, "last_start": RESTORED,
        "history": [RESTORED, CREATED], "failures": {"criu restore": 1}, "fallbacks": 3, "worker_pid": 424_242,
        **changes,
    }  # fmt: skip


def start(**changes: Any) -> dict[str, Any]:
    return {
        "at": NOW, "kind": "created", "reason": "", "phases": {"queue": 0.1, "process": 250.0}, "phase": "import",
        "elapsed_ms": 1_211.0, "expected_ms": 2_974.0, **changes,
    }  # fmt: skip


def text(markup: str) -> str:
    return re.sub(r"<[^>]+>", "", markup)


class Answers(BaseHTTPRequestHandler):
    """A server elsewhere. What it answers is set on the class made for each test."""

    code = 404
    body = b""
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("X-Admin-Key", "")))
        self.send_response(self.code)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def elsewhere(code: int, body: bytes = b"") -> Iterator[tuple[str, list[tuple[str, str]]]]:
    asked: list[tuple[str, str]] = []
    handler = type("Answers", (Answers,), {"code": code, "body": body, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def engine_state(**changes: Any) -> EngineState:
    return EngineState.model_validate(engine(**changes))
