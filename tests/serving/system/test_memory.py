"""How much memory is left, by what the machine and its container say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serving.system.memory import measure_free_memory

KIB, MIB = 1024, 1024 * 1024


def write(folder: Path, limit: str, used: int, files: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\nfile {files}\ninactive_file 1\n")
    return folder


def test_the_smaller_of_machine_and_container_counts(tmp_path: Path) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text(f"MemTotal: 9 kB\nMemAvailable:    {200 * KIB} kB\nSwapFree: 1 kB\n")
    assert measure_free_memory(machine, tmp_path / "none") == 200 * MIB
    assert measure_free_memory(machine, write(tmp_path, f"{100 * MIB}", 80 * MIB, 30 * MIB)) == 50 * MIB
    assert measure_free_memory(machine, write(tmp_path, "max", 80 * MIB, 0)) == 200 * MIB
    assert measure_free_memory(tmp_path / "none", write(tmp_path, f"{10 * MIB}", 80 * MIB, 0)) == 0
    assert measure_free_memory(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says")
def test_this_machine_has_some() -> None:
    assert (measure_free_memory() or 0) > MIB
