from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import criu
from tests.support.hubs import COMMIT, MODEL, Hub


@pytest.fixture(scope="module")
def hub_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a hub has of a checkpoint in two parts; nothing looks into the files."""
    folder = tmp_path_factory.mktemp("weights")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for name in ("config.json", "tokenizer.json", *parts.values()):
        (folder / name).write_text(name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    return folder


@pytest.fixture
def hub(hub_files: Path) -> Iterator[Hub]:
    found = Hub(hub_files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if MODEL not in self.path:
                return self.send_error(404)
            found.asked.append(f"{self.command} {self.path}")
            found.tokens.add(self.headers.get("Authorization", ""))
            if found.refuses:
                self.send_response(401)
                self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif "/tree/" in self.path:
                files = [
                    {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
                    for path in found.folder.iterdir()
                ]
                self.answer(json.dumps(files).encode(), "tree")
            elif self.path.startswith("/api/models/"):
                self.answer(json.dumps({"id": MODEL, "sha": COMMIT, "siblings": []}).encode(), "model")
            else:
                content = (found.folder / self.path.rsplit("/", 1)[1]).read_bytes()
                self.answer(content, hashlib.sha256(content).hexdigest())
            return None

        do_HEAD = do_GET

        def answer(self, content: bytes, tag: str) -> None:
            self.send_response(200)
            for name, value in {
                "ETag": f'"{tag}"',
                "X-Repo-Commit": COMMIT,
                "Content-Length": str(len(content)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["criu", "fork"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each way of saving a worker's process."""
    if request.param == "criu":
        criu.need()
    return str(request.param)
