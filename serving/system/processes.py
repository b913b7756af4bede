"""What a process asks of the system: memory given back, and an end together with its parent."""

from __future__ import annotations

import ctypes
import ctypes.util
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def give_back_memory() -> None:
    """Freed memory goes back to the system where the C library can be asked to (glibc)."""
    if sys.platform == "linux" and ctypes.util.find_library("c"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def die_with_parent() -> None:
    """SIGKILL when the thread that made this process ends, however it ends (Linux; elsewhere nothing happens).

    Forgotten by a fork: each child asks for itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def list_threads() -> list[str]:
    """Names of this process's threads, native ones included; of Linux only, elsewhere empty."""
    folder = Path("/proc/self/task")
    if not folder.exists():
        return []
    return sorted((task / "comm").read_text().strip() for task in folder.iterdir())
