"""Measurements of a parked process."""

from __future__ import annotations

import re
import subprocess
import sys

from serving.snapshots.cuda.parked import measure_host_bytes, read_boot_id

GROW = """
import os
from serving.snapshots.cuda.parked import measure_host_bytes
before = measure_host_bytes(os.getpid())
held = b"\\1" * 100_000_000
print(measure_host_bytes(os.getpid()) - before)
"""


def test_memory_of_a_process_grows_with_what_it_holds() -> None:
    """In a process of its own: what other tests have left in this one ends when it likes."""
    grown = subprocess.run([sys.executable, "-c", GROW], check=True, capture_output=True, text=True).stdout
    assert int(grown) > 90_000_000
    assert measure_host_bytes(2**22 + 1) == 0, "no such process"


def test_the_boot_has_one_id() -> None:
    assert (
        re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", read_boot_id()) and read_boot_id() == read_boot_id()
    )
