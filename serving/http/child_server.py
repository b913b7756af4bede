"""Starts one of our servers as a child process that ends with this one: for the page, the bench and the tests.

The child watches its standard input; when this process ends, however it ends, the pipe closes and the child stops.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Self

from serving.http.server import READY
from serving.system.log import StderrWriter

TAIL_LINES = 20
KILL_S = 10.0
"""How long `stop` waits for the end of a child that it has killed."""


class ProcessFailed(Exception):
    """The child ended, or took too long. The message has the last lines it wrote."""


class ServerProcess:
    """A child process, `python -m <module>` on a free port. Use it as a context manager, or call `stop`."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        inherited: Mapping[str, str] = os.environ,
        *,
        shows_log: bool = True,
    ) -> None:
        """`environment` is added to `inherited`; default: the environment of this process.

        `shows_log`: pass on to standard error what the child writes.
        """
        command = [sys.executable, "-m", module, "--port", "0", "--until-stdin-closes", *arguments]
        self._module = module
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**inherited, **(environment or {})},
            # Ctrl-C in a terminal goes to this process only, which ends the child.
            start_new_session=True,
        )
        self._tail: list[str] = []
        self._shows_log = shows_log
        self._output = StderrWriter()  # where nobody reads standard error, the child's output must still be read
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
        """Stop the child and return its exit code. It finishes its requests; after `grace` seconds it is killed.

        Raises ProcessFailed if the system does not end it even then, as where it waits for a disk that does not answer.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                code = self._process.wait(KILL_S)
            except subprocess.TimeoutExpired:
                raise ProcessFailed(f"{self._module} (process {self.pid}) was killed and has not ended") from None
        self._reader.join(5)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
                    if self._shows_log:
                        self._output.write(line)
        self._known.set()
        self.ended.set()
        self._output.close()
