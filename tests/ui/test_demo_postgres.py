"""What `make demo-postgres` runs: a real server and two real pages in a folder, stopped by Ctrl-C and started again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from tests.support.commands import Dormouse
from tests.support.demo_postgres import why_unreachable
from tests.support.repository import ROOT, SAMPLES


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the user who runs the server for root can go."""
    folder = Path(tempfile.mkdtemp(prefix="dormouse-demo-"))
    folder.chmod(0o755)
    yield folder / "kept"
    shutil.rmtree(folder)


def find_ports() -> int:
    """Return a port that is free, as the next one is."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, suppress(OSError):
            port = int(first.getsockname()[1])
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port


@contextmanager
def running(folder: Path, port: int) -> Iterator[list[str]]:
    """The demo in a process of its own, and the addresses of its pages."""
    command = [sys.executable, "-m", "tests.support.demo_postgres", "--folder", str(folder), "--port", str(port)]
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]  # as a shell starts what runs in the background
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            told = ""
            while "Ctrl-C stops" not in told and (line := process.stdout.readline()):
                told += line
            yield re.findall(r"^  (http://\S+)$", told, re.MULTILINE)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


@pytest.mark.long
@pytest.mark.soak
def test_two_pages_show_the_same_also_after_a_start_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dormouse, port = Dormouse(capsys, ()), find_ports()
    with running(folder, port) as (one, two):
        added = dormouse("add", SAMPLES / "receipt-corner-larder.jpg", "--collection", "mine", "--page", one)
        assert added.code == 0, added.err
        assert "receipt-corner-larder" in dormouse("list", "--files", "--collection", "mine", "--page", two).out
        assert stat.S_IMODE((folder / "address").stat().st_mode) == 0o600
        second = subprocess.run(
            [sys.executable, "-m", "tests.support.demo_postgres", "--folder", str(folder)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert second.returncode == 1 and "running already" in second.stderr
    assert not (folder / "address").exists() and not (folder / "server" / "postmaster.pid").exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(one, timeout=5)
    with running(folder, port) as (one, _):
        assert "receipt-corner-larder" in dormouse("list", "--files", "--collection", "mine", "--page", one).out


@pytest.mark.skipif(os.geteuid() != 0, reason="the server runs as another user for root only")
def test_a_folder_that_the_server_cannot_reach_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert f"cannot go to {tmp_path}: run this as a user who is not root" in why_unreachable(tmp_path / ".postgres")
    assert why_unreachable(Path("/tmp/.postgres")) == ""
