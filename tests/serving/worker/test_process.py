from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving.worker.process import bind_private_socket, read_launch_line, report_phase, reseed_random, run_in_thread
from tests.support.engines import EngineProcess, vector
from tests.support.scripted_engine import NAME
from tests.support.servers import make_settings


@pytest.mark.soak
def test_two_restores_of_one_snapshot_differ_in_all_that_must_differ(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        engine.ask()
        drawn = []
        for _ in range(3):
            engine.to_zero()
            answer = engine.ask("random")
            drawn.append((*vector(answer)[:3], answer.headers["X-Boot-Id"]))
        for values in zip(*drawn, strict=True):
            assert len(set(values)) == 3, "random, numpy, uuid and boot id are fresh after each restore"


def test_a_launch_comes_as_a_line_in_any_parts() -> None:
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        for part in (b'{"a"', b": 1}", b"\n"):
            os.write(writing, part)
        assert pool.submit(read_launch_line, reading).result(10) == b'{"a": 1}\n'
        os.write(writing, b"half a line")
        os.close(writing)
        assert pool.submit(read_launch_line, reading).result(10) == b"", "who starts it has ended"
    os.close(reading)


def test_phases_are_reported_as_they_begin_and_end() -> None:
    reading, writing = os.pipe()
    with report_phase(writing, "load"):
        pass
    with pytest.raises(KeyError), report_phase(writing, "warm_up"):
        raise KeyError
    os.close(writing)
    with os.fdopen(reading) as status:
        begins, ended, failed = (json.loads(line) for line in status)
    assert begins == {"begins": "load"} and failed == {"begins": "warm_up"}
    assert ended["phase"] == "load" and ended["ms"] >= 0


def test_work_in_a_thread_leaves_none_behind() -> None:
    names = run_in_thread(lambda: (threading.current_thread().name, threading.active_count()))
    assert names[0].startswith("warm up") and threading.active_count() == names[1] - 1
    with pytest.raises(ZeroDivisionError):
        run_in_thread(lambda: 1 // 0)


def test_random_state_is_drawn_again() -> None:
    drawn = []
    for _ in range(2):
        random.seed(7)
        np.random.seed(7)
        reseed_random()
        drawn.append((random.random(), float(np.random.random())))
    assert drawn[0][0] != drawn[1][0] and drawn[0][1] != drawn[1][1]


def test_its_socket_is_for_this_user_alone(tmp_path: Path) -> None:
    path, umask = tmp_path / "worker.sock", os.umask(0o022)
    try:
        path.touch()  # left by one that was killed
        with bind_private_socket(path) as listener:
            assert path.stat().st_mode & 0o777 == 0o600
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                listener.accept()[0].close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(umask)


def test_a_process_is_launched_and_ends_with_its_control(tmp_path: Path) -> None:
    """The pipes of a backend, without one: load, launch, serve, stop."""
    control, launching = os.pipe()
    telling, status = os.pipe()
    logged, log = os.pipe()
    settings = make_settings(tmp_path)
    command = [
        sys.executable, "-m", "serving.worker.process", "--embedder", NAME, "--warm-up", "--dies-with-parent",
        "--settings", json.dumps(settings.known_at_load()), "--pipes", str(control), str(status), str(log),
    ]  # fmt: skip
    with subprocess.Popen(command, pass_fds=(control, status, log)) as process:
        for end in (control, status, log):
            os.close(end)
        socket_path = tmp_path / "w.sock"
        with os.fdopen(telling) as told, os.fdopen(logged) as log_of_worker:
            warm = next(found for line in told if "warm" in (found := json.loads(line)))["warm"]
            assert warm["fingerprint"] == "scripted-1" and len(warm["probe"]) == 1 and warm["compiled"] == 0
            os.write(launching, b'{"ping": 1}\n')
            assert json.loads(told.readline()) == {"pong": process.pid}
            launch = {"settings": settings.known_at_launch(), "kind": "restored", "socket": str(socket_path)}
            os.write(launching, json.dumps(launch).encode() + b"\n")
            serving = json.loads(told.readline())["serving"]
            assert set(serving["phases"]) == {"bind", "probe"} and len(serving["boot_id"]) == 32
            np.testing.assert_allclose(serving["probe"], warm["probe"])
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(socket_path))
                client.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert b" 200 " in client.recv(64)
            os.close(launching)
            assert process.wait(20) == 0 and "Traceback" not in log_of_worker.read()


def test_an_embedder_that_is_none_says_so(tmp_path: Path) -> None:
    telling, status = os.pipe()
    logged, log = os.pipe()
    command = [
        sys.executable, "-m", "serving.worker.process", "--embedder", "json:Nothing", "--settings",
        json.dumps(make_settings(tmp_path).known_at_load()), "--pipes", "0", str(status), str(log),
    ]  # fmt: skip
    with subprocess.Popen(command, pass_fds=(status, log), stdin=subprocess.DEVNULL) as process:
        os.close(status)
        os.close(log)
        with os.fdopen(telling) as told:
            failed = [json.loads(line) for line in told][-1]
        os.close(logged)
        assert process.wait(20) == 1 and "there is no embedder" in failed["failed"] and failed["public"]
