"""How much memory is left for this process."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

MACHINE = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")


def measure_free_memory(machine: Path = MACHINE, container: Path = CONTAINER) -> int | None:
    """Return the bytes that can be had without swapping; None on a system that does not say."""
    found = [size for size in (read_available(machine), read_container_rest(container)) if size is not None]
    return min(found, default=None)


def read_available(path: Path) -> int | None:
    with suppress(OSError):
        if found := re.search(r"^MemAvailable:\s+(\d+) kB", path.read_text(), re.MULTILINE):
            return int(found[1]) * 1024
    return None


def read_container_rest(folder: Path) -> int | None:
    """Return what the container's limit leaves, None where it has none. The files that it has read can be dropped."""
    with suppress(OSError, ValueError):
        limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
        files = re.search(r"^file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
        return max(0, limit - used + (int(files[1]) if files else 0))
    return None
