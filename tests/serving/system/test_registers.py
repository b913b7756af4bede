"""Permission for the CPU's large registers, asked for in processes of their own: it cannot be given back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.system.registers import ON_REQUEST

PROGRAM = """
from serving.system.registers import list_permitted_registers, request_registers
before = list_permitted_registers()
request_registers({features})
print(before, list_permitted_registers())
"""


def run(features: str) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(features=features)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_is_asked_for_that_was_not_had() -> None:
    assert run("[]") == "[] []"


def test_what_was_had_is_asked_for_again() -> None:
    path = Path("/proc/cpuinfo")
    if not path.exists() or "amx_tile" not in path.read_text():
        pytest.skip("this CPU has no AMX")
    assert run(str(list(ON_REQUEST))) == f"[] {list(ON_REQUEST)}"


def test_a_feature_that_is_not_there_is_no_error() -> None:
    assert run("[63]") == "[] []"
