"""Every command ends by SIGINT and by SIGTERM, also where SIGINT was ignored when it began.

A shell starts with SIGINT ignored what it puts into the background (`make test &`, a script), and Python then installs
no handler of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from serving.http.server import READY
from serving.system.processes import (
    give_back_memory,
    handle_signals,
    interruptible,
    list_process_tree,
    list_threads,
    read_memory_bytes,
)
from tests.support.scripted_engine import NAME

ROOT = Path(__file__).parents[3]
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
ENGINE = ["--port", "0", "--embedder", NAME, "--snapshot", "plain"]
PAGE = ["--port", "0", "--no-browser"]
SERVERS = {
    "serving": ["serving", *ENGINE],
    "dormouse engine": ["ui", "engine", *ENGINE],
    "ui.app": ["ui.app", *PAGE, "--worker", "{url}"],
    "dormouse": ["ui", *PAGE, "--worker", "{url}"],
}
ASKING = {
    "bench": ["bench", "--url", "{url}", "--out", "{data}"],
    "bench prime": ["bench", "prime", "--url", "{url}"],
    "bench quality": ["bench", "quality", "--url", "{url}"],
    "bench speed": ["bench", "speed", "--url", "{url}"],
    "bench parity": ["bench", "parity", "--a", "{url}", "--b", "{url}"],
    "dormouse bench": ["ui", "bench", "quality", "--url", "{url}"],
    "dormouse deploy": ["ui", "deploy", "--yes"],
    "dormouse destroy": ["ui", "destroy", "--yes"],
    "dormouse status": ["ui", "status"],
}
"""They ask a server that says nothing."""
STARTING = {
    "page with its engine": ["ui.app", *PAGE],
    "bench with engines": ["bench", "--out", "{data}"],
    "bench snapshots": ["bench", "snapshots"],
    "bench page": ["bench", "page"],
    "bench simulate": ["bench", "simulate", "--validate"],
}
"""They start servers of their own first."""


@contextmanager
def in_background(words: list[str], data: Path, url: str = "http://127.0.0.1:9") -> Iterator[subprocess.Popen[str]]:
    """The command as a shell starts it behind `&`."""
    module, *more = (word.format(url=url, data=data) for word in words)
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", module, *more],
        cwd=ROOT, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={
            **os.environ, "PYTHONUNBUFFERED": "1", "DORMOUSE_DATA": str(data), "MODAL_SERVER_URL": url,
            "MODAL_TOKEN_ID": "ak-none", "MODAL_TOKEN_SECRET": "as-none", "MODAL_CONFIG_PATH": str(data / "modal.toml"),
        },
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < ends, "it never began"
        time.sleep(0.05)


def end_by(number: signal.Signals, process: subprocess.Popen[str]) -> None:
    """Send the signal, and return once the command and its children have ended, without a stack trace of ours.

    Modal's client logs what its own thread was waiting for.
    """
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    try:
        said, _ = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{number.name} did not end it")
    assert "KeyboardInterrupt" not in said and ("Traceback" not in said or "ClientClosed" in said), said
    assert not psutil.wait_procs(family, 30)[1], "a process was left running"


@pytest.mark.soak
@SIGNALS
@pytest.mark.parametrize("name", SERVERS)
def test_servers_that_serve(name: str, number: signal.Signals, tmp_path: Path) -> None:
    with in_background(SERVERS[name], tmp_path) as process:
        assert process.stdout is not None
        while READY not in process.stdout.readline():
            assert process.poll() is None
        end_by(number, process)
        assert process.returncode == 0


@pytest.mark.soak
@SIGNALS
@pytest.mark.parametrize("name", ASKING)
def test_commands_that_wait_for_an_answer(name: str, number: signal.Signals, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        with in_background(ASKING[name], tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}") as process:
            connection, _ = silent.accept()
            end_by(number, process)
            connection.close()
            assert process.returncode == 130


@pytest.mark.soak
@SIGNALS
@pytest.mark.parametrize("name", STARTING)
def test_commands_that_start_servers(name: str, number: signal.Signals, tmp_path: Path) -> None:
    with in_background(STARTING[name], tmp_path) as process:
        until(psutil.Process(process.pid).children, process)
        end_by(number, process)
        assert process.returncode == (0 if name.startswith("page") else 130)


def test_signals_are_handled_in_the_block_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen: list[int] = []
    with handle_signals(lambda number, _: seen.append(number)):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
    assert seen == [signal.SIGTERM, signal.SIGINT]
    with interruptible(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_no_handler_changes() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work() -> bool:
        with interruptible():
            return signal.getsignal(signal.SIGTERM) is before

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result()


def test_a_child_dies_with_its_parent() -> None:
    """The parent is killed, and can tell its child nothing."""
    child = (
        "import time; from serving.system.processes import die_with_parent; die_with_parent();"
        "print(1, flush=True); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE);"
        "c.stdout.readline(); print(c.pid, flush=True); c.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        orphan = psutil.Process(int(process.stdout.readline()))
        process.kill()
    assert not psutil.wait_procs([orphan], 10)[1]


def test_threads_are_listed_by_name() -> None:
    count = len(list_threads())
    released = threading.Event()
    thread = threading.Thread(target=released.wait)
    thread.start()
    assert len(list_threads()) == count + 1
    released.set()
    thread.join()
    give_back_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_tree_is_a_process_with_its_descendants() -> None:
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    try:
        until = time.monotonic() + 10
        while len(list_process_tree(shell.pid)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(list_process_tree(shell.pid)) == 2 and shell.pid in list_process_tree(os.getpid())
    finally:
        os.killpg(shell.pid, 9)
        shell.wait()
    assert list_process_tree(shell.pid) == [shell.pid]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_grandchild_is_in_the_tree_and_its_memory_is_read() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        root, grandchild = list_process_tree(process.pid)
        assert root == process.pid and {root, grandchild} <= set(list_process_tree(os.getpid()))
        assert list_process_tree(grandchild) == [grandchild]
        assert 1e6 < read_memory_bytes(grandchild, "Anonymous") < 500e6
        assert read_memory_bytes(grandchild, "Pss") > 1e6
        process.communicate(b"\n")
    assert list_process_tree(process.pid) == [process.pid]
