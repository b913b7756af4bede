"""Starts `python -m serving` as a child and takes it along: for the page, the bench and the tests.

The child watches its standard input; when this process dies, however it dies, the pipe closes and the child stops.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

READY = "ready at "
"""What `python -m serving` prints before its address once it answers."""


class WorkerFailed(Exception):
    """The child ended, or took too long. The message has the last lines it wrote."""


class WorkerProcess:
    """`url` is set once `wait` returns. Use it as a context manager, or call `stop`."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "serving", "--port", "0", "--until-stdin-closes", *arguments]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._tail: list[str] = []
        self._url: str | None = None
        self._known = threading.Event()
        threading.Thread(target=self._read, name="worker output", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float = 120.0) -> str:
        """The address, once the worker answers. Raises WorkerFailed."""
        if not self._known.wait(timeout):
            raise WorkerFailed(f"the worker did not answer within {timeout:g} s:\n{self.tail}")
        if self._url is None:
            raise WorkerFailed(f"the worker ended with exit code {self._process.wait()}:\n{self.tail}")
        return self._url

    @property
    def tail(self) -> str:
        return "".join(self._tail[-20:])

    def stop(self, grace: float = 30.0) -> int:
        """Lets it finish what is in flight; its exit code."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            return self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if self._url is None and line.startswith(READY):
                self._url = line.removeprefix(READY).split()[0]
                self._known.set()
            else:
                self._tail = [*self._tail[-50:], line]
                sys.stderr.write(line)
        self._process.stdout.close()
        self._known.set()
