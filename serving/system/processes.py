"""Calls of a process to the system: memory, threads, its parent's end, its signals."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """Have this process killed when the thread that made it ends in any way (Linux; elsewhere nothing happens).

    A fork does not keep this: each child has to call it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def list_threads() -> list[str]:
    """Return the names of this process's threads, native ones included (Linux; elsewhere empty)."""
    folder = Path("/proc/self/task")
    if not folder.exists():
        return []
    return sorted((task / "comm").read_text().strip() for task in folder.iterdir())


@contextmanager
def handle_signals(handler: Callable[..., Any]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call `handler` while the block runs; outside the main thread nothing is changed."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGINT and SIGTERM: what was started is ended, and what was changed is put back.

    Python does so by itself for SIGINT, but not where it was ignored when the program began, as a shell has it for what
    runs in the background.
    """
    with handle_signals(signal.default_int_handler):
        yield
