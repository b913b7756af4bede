"""Processor time of processes and of the machine. psutil is installed for benches and tests only."""

from __future__ import annotations

from contextlib import suppress
from types import ModuleType

from bench.speed.browser import PACKAGES, BrowserFailed


def load_psutil() -> ModuleType:
    """Return the package. Raises BrowserFailed where it is not installed."""
    try:
        import psutil
    except ImportError:
        raise BrowserFailed(PACKAGES.format("psutil")) from None
    return psutil


def read_processor_times(pid: int) -> dict[int, float]:
    """Return the seconds so far of a process and of all running ones that it has started, by their numbers."""
    psutil = load_psutil()
    found: dict[int, float] = {}
    with suppress(psutil.Error):
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                found[process.pid] = times.user + times.system
    return found


def read_machine_seconds() -> float:
    """Return the seconds so far in which a core of this machine was at work."""
    spent = load_psutil().cpu_times()
    return float(sum(spent) - spent.idle - getattr(spent, "iowait", 0.0))
