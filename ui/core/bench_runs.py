"""Cold-start runs: those that ship with the page, those that were loaded, and those that were started from it.

A run is a process of its own (`python -m bench`) whose result file is complete after every sample. Every view reads
that file: a reload, or a second browser, shows the same. A run ends with the page, and keeps what it has measured.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bench.coldstart.result_file import Result, ResultError, load_result, parse_time
from bench.results.record import RUNS
from serving.errors import BadValueError, NotFoundError
from serving.system.files import write_file

PATTERN = "cold_start_results_*.json"
LOADED = "cold_start_results_loaded.json"
ID = re.compile(r"[a-z0-9_-]{1,64}")
MAX_BYTES = 16 * 1024 * 1024
"""A loaded file may be so large: 50,000 samples."""
SHOWN = 50
TAIL_BYTES = 4096
STOP_S = 20.0
"""A run has so long to end its engines."""
KILL_S = 5.0
"""The system has so long to end a run that was killed: while the kernel waits for a disk or a GPU, it does not."""


@dataclass(frozen=True)
class BenchRun:
    """A run that was started here; it may have ended by now."""

    id: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def last_lines(self, count: int) -> list[str]:
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()
        return [line for line in lines if line.strip()][-count:]

    def stop(self) -> None:
        """Return at once; the run keeps what it has, and ends its engines."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()


class BenchRuns:
    """All runs of a page. Thread-safe."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "runs"
        self._lock = threading.Lock()
        self._running: dict[str, BenchRun] = {}
        """The latest of each target."""

    def start(self, target: str, arguments: Sequence[str], environment: Mapping[str, str]) -> BenchRun:
        """Start `python -m bench` with these arguments. Raises BadValueError while a run of this target goes on."""
        with self._lock:
            if (before := self._running.get(target)) is not None:
                if before.is_running:
                    raise BadValueError("a run of this server is going on: stop it, or wait for its end")
                before.stop()
            folder = self._make_folder()
            command = [sys.executable, "-m", "bench", "--until-stdin-closes", "--out", str(folder), *arguments]
            given = {**os.environ, **environment}
            given.pop("DORMOUSE_STORE", None)  # it measures servers: it has nothing to do with collections
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                    command, env=given, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
                )
            self._running[target] = BenchRun(folder.name, folder / "log", process)
            return self._running[target]

    def _make_folder(self) -> Path:
        """Return a new folder, whose name is the run's."""
        folder = self._folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        folder.mkdir(parents=True)
        return folder

    def latest(self, target: str) -> BenchRun | None:
        """Return the target's run that goes on, or that ended last, of those started since this page was."""
        return self._running.get(target)

    def close(self) -> None:
        """End all runs; one that is still there after `KILL_S` from its kill is left to the system."""
        for running in self._running.values():
            running.stop()
        for running in self._running.values():
            try:
                running.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                running.process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(KILL_S)

    def result_path(self, name: str) -> Path:
        """Raises NotFoundError."""
        if ID.fullmatch(name):
            if (recorded := RUNS / f"cold_start_results_{name}.json").is_file():
                return recorded
            for file in sorted((self._folder / name).glob(PATTERN)):
                return file
        raise NotFoundError("there is no such run")

    def load(self, name: str) -> Result:
        """Raises NotFoundError, or ResultError for a file that cannot be read."""
        try:
            return load_result(self.result_path(name))
        except OSError as error:
            raise ResultError(f"the run cannot be read: {error.strerror}") from None

    def as_json(self, name: str) -> dict[str, Any]:
        """Return state and result; `result` is None before the first sample. Raises NotFoundError."""
        running = next((one for one in self._running.values() if one.id == name), None)
        try:
            result = orjson.loads(self.result_path(name).read_bytes())
        except NotFoundError:
            if running is None:
                raise
            result = None
        state = "failed" if result is None else "done" if result.get("complete") else "stopped"
        if running is not None and running.is_running:
            state = "running"
        return {"run": name, "state": state, "result": result}

    def add_file(self, file: Path) -> str:
        """Copy a result file from elsewhere, and return its name here. Raises ResultError."""
        if file.stat().st_size > MAX_BYTES:
            raise ResultError(f"the file is larger than {MAX_BYTES // 2**20} MiB")
        try:
            load_result(file)
        except ResultError as error:
            raise ResultError(str(error).replace(str(file), "the file")) from None
        folder = self._make_folder()
        try:
            write_file(folder / LOADED, file.read_bytes())
        except OSError:
            folder.rmdir()
            raise
        return folder.name

    def list_choices(self) -> list[tuple[str, str]]:
        """Return (what is shown, name), the newest first, recorded ones last."""
        own = sorted((file.parent.name for file in self._folder.glob(f"*/{PATTERN}")), reverse=True)[:SHOWN]
        recorded = sorted(file.stem.removeprefix("cold_start_results_") for file in RUNS.glob(PATTERN))
        return [(self._describe(name), name) for name in [*dict.fromkeys(own), *recorded]]

    def _describe(self, name: str) -> str:
        try:
            found = self.load(name)
        except (ResultError, NotFoundError):
            return f"{name}: cannot be read"
        stored = ", stored run" if self.result_path(name).parent == RUNS else ""
        part = "" if found.complete else ", stopped"
        gpu = f" on {found.environment.gpu_name}" if found.environment.gpu_name else ""
        return f"{parse_time(found.environment.time):%Y-%m-%d %H:%M} UTC, {found.deployment_name}{gpu}{stored}{part}"
