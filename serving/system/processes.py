"""Calls of a process to the system: give memory back, end together with the parent, list threads."""

from __future__ import annotations

import ctypes
import ctypes.util
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def give_back_memory() -> None:
    """Return freed memory to the system where the C library can do that (glibc)."""
    if sys.platform == "linux" and ctypes.util.find_library("c"):
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
