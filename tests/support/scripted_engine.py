"""A test double of an embedder for real engine and worker processes: told by a file what to do, while it runs.

`script.json` in the data folder, read at each call: seconds to wait, failures to have. Never used in a figure.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.documents.page import Line, Page
from serving.embedders.base import PageResult, Vectors
from serving.errors import ServingError
from serving.settings import Settings
from tests.support.scripted import Scripted, unit

NAME = "tests.support.scripted_engine:ScriptedEmbedder"
RESTORED = "restored"


def script(data: Path, **told: object) -> None:
    (data / "script.json").write_text(json.dumps(told))


class ScriptedEmbedder(Scripted):
    """Keys: `load_s`, `fail_load`, `missing_file`, `exit_load`, `nan_probe`, `names_socket` (by its pid).

    `embed_s` and `flood` (lines of log) of a query; in `restored`, for after a restore, `hang`, `exit` and `shift` (of
    the probe). A query "random" is answered with numbers of this process's random state."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._script = settings.data / "script.json"
        self._probes = 0
        self._ballast = np.ones(250_000)  # 2 MB: a snapshot that has something in it

    def told(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._script.read_text())
        except (OSError, ValueError):
            return {}
        return found

    def load(self) -> None:
        told = self.told()
        time.sleep(told.get("load_s", 0))
        if told.get("exit_load"):
            os.kill(os.getpid(), told["exit_load"])
        if told.get("missing_file"):
            Path(told["missing_file"]).read_bytes()
        if told.get("fail_load"):
            raise ServingError(told["fail_load"])
        if told.get("names_socket"):  # as the CUDA driver does
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(f"\0a-socket-of-{os.getpid()}")
            self.socket.listen()
        super().load()

    def probe(self) -> Vectors:
        """The first one is of the snapshot; each later one of a life. Plain starts have only one."""
        told, self._probes = self.told(), self._probes + 1
        vectors = unit("probe", self.dimension)[None]
        if told.get("nan_probe"):
            return np.asarray(vectors * np.float32("nan"))
        if self._probes > 1 and told.get(RESTORED):
            after = told[RESTORED]
            if after.get("exit"):
                os.kill(os.getpid(), after["exit"])
            time.sleep(3600 if after.get("hang") else 0)
            vectors = vectors + np.float32(after.get("shift", 0))
        return np.asarray(vectors)

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        told = self.told()
        time.sleep(told.get("embed_s", 0))
        for _ in range(told.get("flood", 0)):
            print("a line of a log " * 8, file=sys.stderr)
        if queries[0] == "random":
            drawn = [random.random(), float(np.random.random()), uuid.uuid4().int / 2**128]
            return np.resize(np.asarray(drawn, np.float32), (1, self.dimension))
        return super().embed_queries(queries)

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]:
        time.sleep(self.told().get("embed_s", 0))
        return [PageResult(unit("page", self.dimension), (Line("page"),)) for _ in pages]
