"""Cold-start runs: those that ship with the page, those that were loaded, and those that were started from it.

A run is a process of its own (`python -m bench`) whose result file is whole after every sample. Whoever looks reads
that file: a reload, or a second browser, sees the same. It ends with the page, and keeps what it has measured.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
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
from serving.errors import BadValueError, NotFoundError
from serving.system.files import write_file

RECORDED = Path(__file__).parents[2] / "assets" / "runs"
PATTERN = "cold_start_results_*.json"
LOADED = "cold_start_results_loaded.json"
ID = re.compile(r"[a-z0-9_-]{1,64}")
MOST_BYTES = 16 * 1024 * 1024
"""Of a file that somebody loads: 50,000 samples."""
SHOWN = 50
TAIL_BYTES = 4096
STOP_S = 20.0
"""For a run to end its engines."""
KILL_S = 5.0
"""For the system to end a run that was killed: while the kernel waits for a disk or a GPU, it does not."""


@dataclass(frozen=True)
class Running:
    """One that was started here; it may have ended by now."""

    id: str
    target: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def going(self) -> bool:
        return self.process.poll() is None

    def lines(self, most: int) -> list[str]:
        """The last that it said."""
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
        return [line for line in text.splitlines() if line.strip()][-most:]

    def stop(self) -> None:
        """Returns at once; it keeps what it has, and ends its engines."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()


class Runs:
    """From any thread."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "runs"
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}

    def start(self, target: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Running:
        """`arguments` are those of `python -m bench`. Raises BadValueError while one of this target goes on."""
        with self._lock:
            if (before := self._running.get(target)) is not None and before.going:
                raise BadValueError("a run of this server is going on: stop it, or wait for its end")
            if before is not None:
                before.stop()
            folder = self._new()
            command = [sys.executable, "-m", "bench", "--until-stdin-closes", "--out", str(folder), *arguments]
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                    command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                    env={**os.environ, **environment}, start_new_session=True,
                )  # fmt: skip
            self._running[target] = Running(folder.name, target, folder / "log", process)
            return self._running[target]

    def _new(self) -> Path:
        """An empty folder, by whose name a run is known."""
        folder = self._folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        folder.mkdir(parents=True)
        return folder

    def latest(self, target: str) -> Running | None:
        """The one that goes on, or that ended last, of those started since this page was."""
        return self._running.get(target)

    def going(self, target: str) -> str:
        """The name of the one that goes on; empty if none does."""
        running = self._running.get(target)
        return running.id if running is not None and running.going else ""

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

    def path(self, name: str) -> Path:
        """Of a result file. Raises NotFoundError."""
        if ID.fullmatch(name):
            if (recorded := RECORDED / f"cold_start_results_{name}.json").is_file():
                return recorded
            for file in sorted((self._folder / name).glob(PATTERN)):
                return file
        raise NotFoundError("there is no such run")

    def result(self, name: str) -> Result:
        """Raises NotFoundError, or ResultError for a file that cannot be read."""
        try:
            return load_result(self.path(name))
        except OSError as error:
            raise ResultError(f"the run cannot be read: {error.strerror}") from None

    def told(self, name: str) -> dict[str, Any]:
        """State and result, as JSON. `result` is None before the first sample. Raises NotFoundError."""
        running = next((one for one in self._running.values() if one.id == name), None)
        result = None
        try:
            result = orjson.loads(self.path(name).read_bytes())
        except NotFoundError:
            if running is None:
                raise
        if running is not None and running.going:
            state = "running"
        elif result is None:
            state = "failed"
        else:
            state = "done" if result.get("complete") else "stopped"
        return {"run": name, "state": state, "result": result}

    def keep(self, file: Path) -> str:
        """A copy of a result file from elsewhere; its name here. Raises ResultError."""
        if file.stat().st_size > MOST_BYTES:
            raise ResultError(f"the file is larger than {MOST_BYTES // 2**20} MiB")
        try:
            load_result(file)
        except ResultError as error:
            raise ResultError(str(error).replace(str(file), "the file")) from None
        folder = self._new()
        try:
            write_file(folder / LOADED, file.read_bytes())
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder.name

    def choices(self) -> list[tuple[str, str]]:
        """(what is shown, name), the newest first, recorded ones last."""
        own = sorted((file.parent.name for file in self._folder.glob(f"*/{PATTERN}")), reverse=True)[:SHOWN]
        recorded = sorted(file.stem.removeprefix("cold_start_results_") for file in RECORDED.glob(PATTERN))
        return [(self._label(name), name) for name in [*dict.fromkeys(own), *recorded]]

    def _label(self, name: str) -> str:
        try:
            found = self.result(name)
        except (ResultError, NotFoundError):
            return f"{name}: cannot be read"
        stored = ", stored run" if self.path(name).parent == RECORDED else ""
        part = "" if found.complete else ", stopped"
        gpu = f" on {found.environment.gpu_name}" if found.environment.gpu_name else ""
        return f"{parse_time(found.environment.time):%Y-%m-%d %H:%M} UTC, {found.deployment_name}{gpu}{stored}{part}"
