"""Parses untrusted files in separate processes that can be killed.

A page that takes too long or too much memory, or crashes its parser, fails alone. Each process has its own pair of
pipes, and they share no lock: one that is killed in the middle of an answer does not block the others. Processes are
executed, not forked: they have neither memory nor keys of the page's process.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

from serving.documents.parser_process import BEGUN, FRAME
from serving.errors import NotReadyError, make_error
from serving.settings import MiB, Settings
from serving.system.environment import process_variables

Parsed = tuple[bytearray, bytearray]
"""A JSON object and raw bytes. A parser that a file took over may have written them: check their content."""
Answer = tuple[bool, bytearray, bytearray]
"""Whether it is an error, then as `Parsed`."""
Parse = Callable[[str, Mapping[str, object]], Parsed]
"""`ParserPool.run`, or a partial of it with the event that cancels it."""
MODULES = ("serving.documents.pdfium",)
"""Modules that a process imports before its first task."""
FEW_THREADS = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Each further arena, or thread of numpy, would take 32 to 64 MB of address space."""
MAX_FACTS_BYTES = 64 * MiB
MAX_DATA_BYTES = 256 * MiB
START_TIMEOUT_S = 60.0
CHECK_S = 0.1
"""How often a task looks whether it was cancelled."""
STOPPED = "reading the file was stopped"
NO_PROCESS = "no process to read files could be started"


class ParserFailed(Exception):
    """The parser took too long on the file, or crashed. The message says which, as the end of a sentence."""


class ParserPool:
    """The processes of one page's server."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing: processes start on demand, and end when they are idle."""
        self._settings = settings
        # One more than the pages that one upload has drawn at a time, so that others do not wait for its slow ones.
        self._size = settings.pages_ahead + 1
        self._idle: list[ParserProcess] = []
        self._busy: set[ParserProcess] = set()
        self._closed = False
        self._changed = threading.Condition()

    def run(self, task: str, arguments: Mapping[str, object], cancelled: threading.Event | None = None) -> Parsed:
        """Run `module:function` in a process of the pool, and return its answer. Its deadline begins with the task.

        Raises the task's own ServingError, ParserFailed, or NotReadyError: cancelled, closed, no process available.
        """
        request = json.dumps({"task": task, "arguments": arguments}).encode() + b"\n"

        def stopped() -> bool:
            return self._closed or (cancelled is not None and cancelled.is_set())

        answer = self._run_once(request, stopped) or self._run_once(request, stopped, fresh=True)
        assert answer is not None
        refused, facts, data = answer
        if refused:
            raise make_error(int(json.loads(facts)["status"]), facts)
        return facts, data

    def _run_once(self, request: bytes, stopped: Callable[[], bool], *, fresh: bool = False) -> Answer | None:
        """Return the answer; None if the process had ended before it began, unless it was a `fresh` one."""
        process = self._take(stopped, fresh)
        whole = False
        try:
            process.start(stopped)
            answer = process.ask(request, self._settings.parser_timeout_s, stopped)
            whole = True
            return answer
        except TimeoutError:
            raise ParserFailed(f"it took longer than {self._settings.parser_timeout_s:g} s") from None
        except (EOFError, BrokenPipeError, ValueError):
            if stopped():
                raise NotReadyError(STOPPED, retry_after=5) from None
            if not process.has_begun and not fresh:
                return None
            size = self._settings.parser_memory_bytes // MiB
            raise ParserFailed(f"its reader crashed, or needed more than {size:,} MiB of memory") from None
        finally:
            self._give_back(process, whole)

    def close(self) -> None:
        """Kill all processes, busy ones too; later tasks are refused."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            processes = [*idle, *self._busy]
            self._changed.notify_all()
        for process in processes:
            process.kill()
        for process in idle:
            process.end()

    def _take(self, stopped: Callable[[], bool], fresh: bool) -> ParserProcess:
        with self._changed:
            while not stopped() and len(self._busy) >= self._size:
                self._changed.wait(CHECK_S)
            if stopped():
                raise NotReadyError(STOPPED, retry_after=5)
            while self._idle and not fresh:
                process = self._idle.pop()  # the most recently used: the others can reach their idle limit
                if not process.has_ended():
                    break
                process.end()
            else:
                try:
                    process = ParserProcess(self._settings.parser_memory_bytes)
                except OSError as error:
                    raise NotReadyError(f"{NO_PROCESS}: {error.strerror}", retry_after=5) from None
            self._busy.add(process)
            return process

    def _give_back(self, process: ParserProcess, whole: bool) -> None:
        with self._changed:
            self._busy.discard(process)
            kept = whole and not self._closed
            if kept:
                self._idle.append(process)
            self._changed.notify()
        if not kept:
            process.end()

    def __enter__(self) -> ParserPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ParserProcess:
    """One process and its two pipes."""

    def __init__(self, memory: int) -> None:
        command = [sys.executable, "-P", "-m", "serving.documents.parser_process", "--memory", str(memory), *MODULES]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**process_variables(), "PYTHONPATH": os.pathsep.join(sys.path), **FEW_THREADS},
            start_new_session=True,  # Ctrl-C in a terminal goes to us
        )
        self._is_ready = False
        self.has_begun = False
        """Whether it began the last task that it was asked."""

    def start(self, stopped: Callable[[], bool]) -> None:
        """Wait until the process is ready. Raises EOFError if `stopped`, NotReadyError if it does not start."""
        if self._is_ready:
            return
        try:
            self._read_frame(time.monotonic() + START_TIMEOUT_S, stopped)
        except (EOFError, TimeoutError):
            if stopped():
                raise
            raise NotReadyError(NO_PROCESS, retry_after=5) from None
        self._is_ready = True

    def ask(self, request: bytes, timeout: float, stopped: Callable[[], bool]) -> Answer:
        """Return its answer.

        Raises TimeoutError; EOFError or BrokenPipeError if it has ended; ValueError if its answer is invalid; EOFError
        if `stopped`.
        """
        assert self._process.stdin is not None
        self.has_begun = False
        self._process.stdin.write(request)
        until = time.monotonic() + timeout
        self._read(len(BEGUN), until, stopped)
        self.has_begun = True
        return self._read_frame(until, stopped)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill it, from any thread. A thread that waits for its answer gets EOFError."""
        self._process.kill()

    def end(self) -> int:
        """Kill it and return its exit code, its own if it had ended before. Only for the thread that took it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        return self._process.wait()

    def _read_frame(self, until: float, stopped: Callable[[], bool]) -> Answer:
        refused, facts_size, data_size = FRAME.unpack(self._read(FRAME.size, until, stopped))
        if facts_size > MAX_FACTS_BYTES or data_size > MAX_DATA_BYTES:
            raise ValueError("too long an answer")
        return refused, self._read(facts_size, until, stopped), self._read(data_size, until, stopped)

    def _read(self, size: int, until: float, stopped: Callable[[], bool]) -> bytearray:
        assert self._process.stdout is not None
        found = bytearray(size)
        left = memoryview(found)
        readable = select.poll()
        readable.register(self._process.stdout, select.POLLIN)
        while left:
            remaining = until - time.monotonic()
            if stopped():
                raise EOFError
            if remaining <= 0:
                raise TimeoutError
            if readable.poll(min(CHECK_S, remaining) * 1000):
                count = os.readv(self._process.stdout.fileno(), [left])
                if not count:
                    raise EOFError
                left = left[count:]
        return found
