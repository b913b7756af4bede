"""Real engines for tests: `python -m serving` with a data folder of its own, and what it says of itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests

from serving.http.child_server import ServerProcess
from tests.support.criu import tool
from tests.support.scripted import unit
from tests.support.scripted_engine import NAME

TOTAL_DUE = unit("total due", 2560)


class EngineProcess(ServerProcess):
    def __init__(self, data: Path, snapshot: str, *more: str, embedder: str = NAME, **environment: str) -> None:
        self.data = data
        criu = tool()
        super().__init__(
            "serving",
            ["--embedder", embedder, "--snapshot", snapshot, "--data", str(data), *more],
            {"DORMOUSE_CRIU": criu or "", **environment},
        )

    @property
    def admin(self) -> dict[str, str]:
        return {"X-Admin-Key": (self.data / "admin.key").read_text()}

    def ask(self, text: str = "total due", timeout: float = 60, **headers: str) -> requests.Response:
        return self.embed({"texts": [text]}, timeout, **headers)

    def embed(self, body: dict[str, Any], timeout: float = 60, **headers: str) -> requests.Response:
        return requests.post(self.wait() + "/embed", json=body, headers=headers, timeout=timeout)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(self.wait() + "/engine", headers=self.admin, timeout=10).json()
        return found

    def to_zero(self) -> None:
        answer = requests.post(self.wait() + "/engine/scaledown", headers=self.admin, timeout=40)
        assert answer.json() == {"status": "zero"}, answer.text

    def until(self, condition: Callable[[dict[str, Any]], bool], timeout: float = 20) -> dict[str, Any]:
        ends = time.monotonic() + timeout
        while not condition(found := self.status()):
            assert time.monotonic() < ends, json.dumps(found, indent=1)
            time.sleep(0.02)
        return found

    def events(self) -> Iterator[dict[str, Any]]:
        with requests.get(self.wait() + "/engine/events", headers=self.admin, stream=True, timeout=30) as stream:
            for line in stream.iter_lines():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def worker(self) -> psutil.Process:
        """The process that serves: the last of its tree."""
        return next(process for process in self.family() if not process.children())


def vector(response: requests.Response) -> list[float]:
    assert response.status_code == 200, response.text
    found: list[float] = response.json()["embeddings"][0]
    return found


def kind(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return response.headers["X-Start-Kind"]


def is_right(response: requests.Response) -> bool:
    """True for the vector of "total due"; fails for another one."""
    np.testing.assert_allclose(vector(response), TOTAL_DUE, atol=1e-6)
    return True


def have_ended(processes: list[psutil.Process], timeout: float = 10) -> bool:
    return not psutil.wait_procs(processes, timeout=timeout)[1]
