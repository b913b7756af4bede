"""Processor time: of whom, and what is said where it cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.speed.browser import BrowserFailed
from bench.speed.processor_time import load_psutil, read_machine_seconds, read_processor_times


def test_a_process_counts_with_those_that_it_has_started() -> None:
    machine = read_machine_seconds()
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        found = read_processor_times(os.getpid())
        child.communicate()
    assert found.keys() >= {os.getpid(), child.pid} and found[os.getpid()] > 0
    assert read_machine_seconds() >= machine > 0
    assert read_processor_times(2**22 + 1) == {}, "no such process"


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(BrowserFailed, match=r"needs psutil: run `make bench`"):
        load_psutil()
