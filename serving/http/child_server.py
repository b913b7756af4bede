"""Starts one of our servers as a child process that ends with this one: for the page, the bench and the tests.

The child watches its standard input; when this process ends, however it ends, the pipe closes and the child stops.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

from serving.http.server import READY

TAIL_LINES = 20
MOST_LINES = 10_000
"""Lines of a child that may wait to be written to our standard error; older ones are dropped."""
LAST_S = 1.0
"""How long `stop` waits until the last of them are written."""


class ProcessFailed(Exception):
    """The child ended, or took too long. The message has the last lines it wrote."""


class OutputForwarder(threading.Thread):
    """Writes a child's lines to our standard error. In a thread of its own: where nobody reads standard error, or it is
    closed, the child's output must still be read."""

    def __init__(self) -> None:
        super().__init__(name="child output", daemon=True)
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        self.start()

    def put(self, line: str | None) -> None:
        """Add a line; None ends the thread. Drops the oldest line where too many wait. For one caller thread."""
        while True:
            with contextlib.suppress(queue.Full):
                return self._lines.put_nowait(line)
            with contextlib.suppress(queue.Empty):
                self._lines.get_nowait()

    def run(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):  # broken, closed, none from the start
                sys.stderr.write(line)


class ServerProcess:
    """Runs `python -m <module>` on a free port. Use it as a context manager, or call `stop`."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        inherited: Mapping[str, str] = os.environ,
    ) -> None:
        """`environment` is added to `inherited`; default: the environment of this process."""
        command = [sys.executable, "-m", module, "--port", "0", "--until-stdin-closes", *arguments]
        self._module = module
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**inherited, **(environment or {})},
            # Ctrl-C in a terminal goes to this process only, which ends the child.
            start_new_session=True,
        )
        self._tail: list[str] = []
        self._forwarder = OutputForwarder()
        self._url: str | None = None
        self._known = threading.Event()
        self.ended = threading.Event()
        """Set when the child has ended, and so closed its output."""
        self._reader = threading.Thread(target=self._read, name=f"{module} output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def tail(self) -> str:
        """Return the child's last lines."""
        return "".join(self._tail)

    def wait(self, timeout: float = 120.0) -> str:
        """Return the child's address once it answers. Raises ProcessFailed."""
        if not self._known.wait(timeout):
            raise ProcessFailed(f"{self._module} did not answer within {timeout:g} s:\n{self.tail}")
        if self._url is None:
            raise ProcessFailed(f"{self._module} ended with exit code {self._process.wait()}:\n{self.tail}")
        return self._url

    def terminate(self) -> None:
        """Send SIGTERM. Call `stop` to wait for the end."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL: requests in flight are lost."""
        self._process.kill()

    def stop(self, grace: float = 30.0) -> int:
        """Stop the child and return its exit code. It finishes its requests; after `grace` seconds it is killed."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            code = self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(5)
        self._forwarder.join(LAST_S)
        return code

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                if self._url is None and READY in line:
                    self._url = line.partition(READY)[2].split()[0]
                    self._known.set()
                else:
                    self._tail = [*self._tail[1 - TAIL_LINES :], line]  # a new one: others read it meanwhile
                    self._forwarder.put(line)
        self._forwarder.put(None)
        self._known.set()
        self.ended.set()
