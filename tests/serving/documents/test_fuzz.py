"""Bytes that atheris makes up, for some seconds: only errors of ours may come of them (tests/support/fuzz.py)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

KINDS = ("files", "zips", "bodies", "exports")
"""Of tests/support/fuzz.py, which cannot be imported without atheris."""
RUNS, AT_MOST_S = 5_000, 8
BOUNDS = ["-seed=1", "-timeout=20", "-rss_limit_mb=2048", "-max_len=20000", f"-max_total_time={AT_MOST_S}"]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is there for Linux on x86-64 only")
@pytest.mark.parametrize("kind", KINDS)
def test_made_up_bytes_end_in_errors_of_ours(kind: str, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.fuzz", kind, str(tmp_path / "corpus")]
    options = [*BOUNDS, f"-runs={RUNS}", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, errors="replace", timeout=150)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-6_000:]
    assert "DONE" in done.stderr and len(list((tmp_path / "corpus").iterdir())) > 1
