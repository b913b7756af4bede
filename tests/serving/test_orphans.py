"""Servers whose starting process is gone before they answer: nobody reads what they write."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.repository import ROOT
from tests.support.scripted_engine import NAME
from tests.support.waiting import until

COMMANDS = {
    "serving": ["serving", "--embedder", NAME, "--snapshot", "plain"],
    "ui.app": ["ui.app", "--no-browser", "--worker", "http://127.0.0.1:9"],
}


def start_unread(name: str, data: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a server whose standard output has no reader any more."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", *COMMANDS[name], "--data", str(data), *options],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(reading)
    os.close(writing)
    return process


@pytest.mark.parametrize("name", COMMANDS)
def test_it_ends_without_the_process_that_started_it(name: str, tmp_path: Path) -> None:
    process = start_unread(name, tmp_path, "--port", "0", "--until-stdin-closes")
    assert process.stdin is not None
    process.stdin.close()
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("name", COMMANDS)
def test_it_serves_where_nobody_reads_its_output(name: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start_unread(name, tmp_path, "--port", str(port))
    try:
        until(lambda: process.poll() is not None or is_answering(port), 60)
        assert is_answering(port)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def is_answering(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=5).ok
    except requests.ConnectionError:
        return False
