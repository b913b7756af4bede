"""The cores that this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIPS = Path("/proc/self/cgroup")


def count_cores(cgroups: Path = CGROUPS, memberships: Path = MEMBERSHIPS) -> int:
    """Return how many cores this process may run on, or as much of their time as its container may take, if less.

    A quota of one and a half cores counts as two.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([affinity, *(max(1, math.ceil(quota)) for quota in read_quotas(cgroups, memberships))])


def read_quotas(cgroups: Path, memberships: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of this process's control groups and those above, by either version of the kernel's.

    Inside a container its own group may be the root of what it sees. What cannot be read is no limit.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in memberships.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = cgroups / controllers if controllers else cgroups
            folder = root / group.strip("/")
            for level in (folder, *folder.parents):
                with contextlib.suppress(OSError, ValueError):
                    yield read_quota(level, is_first_version=bool(controllers))
                if level == root:
                    break


def read_quota(group: Path, is_first_version: bool) -> float:
    """Return the cores of a group. Raises OSError or ValueError if it has no limit."""
    if is_first_version:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    else:
        quota, period = (group / "cpu.max").read_text().split()
    if float(quota) <= 0:
        raise ValueError("no quota")
    return float(quota) / float(period)
