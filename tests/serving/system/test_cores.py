"""Cores of containers, by files as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.system.cores import count_cores, read_quotas


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("membership", "files", "quotas"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/\n", {}, []),
        (
            "0::/a/b\n",
            {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n", "cpu.max": "400000 100000"},
            [0.5, 4],
        ),
        ("0::/host/path/unseen\n", {"cpu.max": "200000 100000\n"}, [2]),
        (
            "5:memory:/x\n4:cpu,cpuacct:/x\n1:name=systemd:/\n0::/\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
            [2.5],
        ),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, []),
        ("rubbish\n", {"cpu.max": "rubbish"}, []),
    ],
    ids=["one-and-a-half", "no-limit", "no-file", "nested", "inside", "first-version", "first-without", "rubbish"],
)
def test_quotas_are_found(membership: str, files: dict[str, str], quotas: list[float], tmp_path: Path) -> None:
    write_files(tmp_path, {**{f"cgroup/{name}": text for name, text in files.items()}, "membership": membership})
    assert list(read_quotas(tmp_path / "cgroup", tmp_path / "membership")) == quotas


def test_a_quota_below_the_machine_counts(tmp_path: Path) -> None:
    write_files(tmp_path, {"cpu.max": "10000 100000", "membership": "0::/"})
    assert count_cores(tmp_path, tmp_path / "membership") == 1
    write_files(tmp_path, {"cpu.max": "100000000 100000"})
    assert count_cores(tmp_path, tmp_path / "membership") == count_cores(tmp_path / "none", tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell which cores are ours")
def test_never_more_than_it_may_run_on() -> None:
    assert 1 <= count_cores() <= len(os.sched_getaffinity(0))
