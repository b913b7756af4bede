"""Calls of a process to the system: memory, threads, its parent's end, its signals."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def give_back_memory() -> None:
    """Return freed memory to the system where the C library can do that (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def die_with_parent() -> None:
    """Have Linux kill this process when the thread that made it ends. A fork loses this: each child has to call it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def list_threads() -> list[str]:
    """Return the names of this process's threads, native ones included (Linux; elsewhere empty)."""
    names = []
    for task in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # a thread may end meanwhile
            names.append((task / "comm").read_text().strip())
    return sorted(names)


def list_process_tree(root: int) -> list[int]:
    """Return that process and its descendants (Linux)."""
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*"):
            with suppress(OSError):
                left += [int(child) for child in (task / "children").read_text().split()]
    return found


def hide_argument(text: str) -> None:
    """Overwrite an argument in what others see of this process's command line (Linux; elsewhere nothing is done)."""
    with suppress(OSError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = (int(field) for field in fields[45:47])  # arg_start and arg_end, of proc_pid_stat(5)
        place = ctypes.string_at(start, end - start).find(text.encode())
        if place >= 0:
            ctypes.memset(start + place, ord("x"), len(text.encode()))


def read_memory_bytes(pid: int, what: str) -> int:
    """Return bytes of `Pss` (shared pages in parts) or `Anonymous` (what is in no file). Raises OSError (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


@contextmanager
def handle_signals(
    handler: Callable[..., Any], numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
    """Have these signals call `handler` while the block runs; outside the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


@contextmanager
def hold_signals_back() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait while the block runs: for what must not be done by half."""
    came: list[int] = []
    with handle_signals(lambda number, _: came.append(number), list_ending_signals()):
        yield
    if came:
        raise KeyboardInterrupt


def list_ending_signals() -> list[signal.Signals]:
    """Return the signals that end a command; without SIGHUP where it is ignored, as by nohup."""
    found = [signal.SIGINT, signal.SIGTERM]
    return found if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*found, signal.SIGHUP]


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGINT and SIGTERM: what was started is ended, and what was changed is put back.

    Python does so by itself for SIGINT, but not where it was ignored when the program began, as a shell has it for what
    runs in the background.
    """
    with handle_signals(signal.default_int_handler):
        yield
