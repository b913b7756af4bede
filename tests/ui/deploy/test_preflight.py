"""What is looked at before a deployment; the hub is a double. What is asked of Modal: tests/modal/test_deploy.py."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serving.cloud.credentials import Keys
from ui.deploy.preflight import Outcome, check_access, check_licence, find_hub_token

ROOT = Path(__file__).parents[3]
LOOK = """
import sys
from ui.deploy.preflight import check_licence
found = check_licence("someone/weights", sys.argv[1])
print(found.mark.name, found.text)
"""


@contextmanager
def hub(status: int, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """Answers as the model hub does, and notes who asked."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers.get('Authorization')}")
            body = json.dumps({}).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def look(url: str, **environment: str) -> str:
    """In a process of its own: the hub's client reads its address when it is imported."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HF_ENDPOINT": url, **environment}
    command = [sys.executable, "-c", LOOK, "hf_mine"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_token_that_may_read_the_weights() -> None:
    with hub(200) as (url, seen):
        assert look(url) == "GOOD HF_TOKEN may read someone/weights"
    assert [line for line in seen if "someone/weights" in line] == [
        "/api/models/someone/weights/auth-check Bearer hf_mine"
    ]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "GatedRepo", "BAD the licence of someone/weights is not accepted: open https://huggingface.co/someone/"),
        (404, "RepoNotFound", "BAD the hub shows no someone/weights to this HF_TOKEN: is the token right?"),
        (500, "", "UNSEEN the hub could not be asked about someone/weights (HfHubHTTPError)"),
        (401, "", "BAD the hub shows no someone/weights to this HF_TOKEN: is the token right?"),
    ],
)
def test_a_licence_that_is_not_accepted_and_a_token_that_is_wrong(status: int, code: str, said: str) -> None:
    with hub(status, **({"X_Error_Code": code} if code else {})) as (url, _):
        assert look(url).startswith(said)


def test_a_hub_that_cannot_be_asked_holds_nothing_up() -> None:
    assert look("http://127.0.0.1:9").startswith("UNSEEN the hub could not be asked about someone/weights")
    offline = look("http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert offline.startswith("UNSEEN the hub could not be asked about someone/weights")


def test_what_is_not_looked_up(tmp_path: Path) -> None:
    assert check_licence(str(tmp_path), "hf_mine").mark is Outcome.UNSEEN
    assert "the first start shows" in check_licence("someone/weights", "").text


def test_who_may_call() -> None:
    assert check_access("proxy", Keys()).mark is Outcome.MAKE
    assert check_access("proxy", Keys(headers={"Modal-Key": "wk"})).mark is Outcome.GOOD
    assert "still starts a container" in check_access("keys", Keys()).text
    assert "everybody who knows an address" in check_access("open", Keys()).text


def test_the_token_by_each_of_its_names() -> None:
    assert find_hub_token({}) == find_hub_token({"HF_TOKEN": " "}) == ""
    assert find_hub_token({"HUGGINGFACE_TOKEN": "b", "HF_TOKEN": " a\n"}) == "a"
    assert find_hub_token({"HUGGINGFACE_TOKEN": "b"}) == "b"
