"""The engine's promises with real processes, real criu and real forks; the embedder is scripted so that it can fail.

What matters most is asked again of the real embedder in test_engine_builtin.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from serving.engine.runtime_dir import locate_runtime_dir
from tests.support import criu
from tests.support.engines import EngineProcess, kind, vector
from tests.support.scripted import unit
from tests.support.scripted_engine import NAME, script

BACKENDS = ["criu", "fork"]
TOTAL_DUE = unit("total due", 2560)
JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "criu":
        criu.need()
    return str(request.param)


def right(response: requests.Response) -> bool:
    np.testing.assert_allclose(vector(response), TOTAL_DUE, atol=1e-6)
    return True


def gone(processes: list[psutil.Process], timeout: float = 10) -> bool:
    return not psutil.wait_procs(processes, timeout=timeout)[1]


@pytest.mark.parametrize("name", ["criu", "fork", "plain", "auto"])
def test_life_of_a_worker(tmp_path: Path, name: str) -> None:
    """The way of the README, with each backend: created, restored, restored; a new boot id each time."""
    if name in ("criu", "auto"):
        criu.need()
    with EngineProcess(tmp_path, name, "--scaledown-window", "2") as engine:
        assert engine.status()["state"] == "zero"
        answers = [engine.ask()]
        again = engine.ask()
        assert again.headers["X-Boot-Id"] == answers[0].headers["X-Boot-Id"]
        assert [answer.headers["X-Boot-Requests"] for answer in (answers[0], again)] == ["1", "2"]
        assert engine.status()["scaledown_at"] is not None
        engine.until(lambda told: told["state"] == "zero")  # by itself, after its window
        for _ in range(2):
            answers.append(engine.ask())
            engine.to_zero()
        assert all(right(answer) for answer in answers)
        expected = ["plain"] * 3 if name == "plain" else ["created", "restored", "restored"]
        assert [kind(answer) for answer in answers] == expected
        assert len({answer.headers["X-Boot-Id"] for answer in answers}) == 3
        tier = {"criu": "disk", "auto": "disk", "fork": "host", "plain": "none"}[name]
        assert {answer.headers["X-Snapshot-Tier"] for answer in answers} == {tier}
        start = "start" if name == "plain" else "restore"
        assert (
            f"{start};dur=" in answers[2].headers["Server-Timing"]
            and "hold;dur=" in answers[2].headers["Server-Timing"]
        )
        told = engine.status()
        assert told["backend"] == ("criu" if name == "auto" else name) and told["tier"] == tier
        assert [row["kind"] for row in told["history"]] == expected[::-1]
        held = {"criu": 0, "auto": 0, "plain": 0, "fork": 1}[name]
        assert len(engine.family()) == held, "held at zero"


@pytest.mark.soak
def test_a_hundred_first_requests_are_one_start_and_a_hundred_right_answers(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        engine.wait()
        for expected in ("created", "restored"):
            with ThreadPoolExecutor(100) as pool:
                answers = list(pool.map(lambda _: engine.ask(), range(100)))
            assert all(right(answer) for answer in answers)
            assert {kind(answer) for answer in answers} == {expected}
            assert len({answer.headers["X-Boot-Id"] for answer in answers}) == 1
            assert sorted(int(answer.headers["X-Boot-Requests"]) for answer in answers) == list(range(1, 101))
            engine.to_zero()
        assert len(engine.status()["history"]) == 2


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


@pytest.mark.soak
def test_worker_killed_in_the_middle_of_a_batch(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        assert right(engine.ask())
        script(tmp_path, embed_s=5)
        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(engine.ask) for _ in range(3)]
            engine.until(lambda told: told["in_flight"] == 3)
            time.sleep(0.3)
            script(tmp_path)
            engine.worker().kill()
            answers = [future.result() for future in asking]
        for answer in answers:
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
            assert "ended in the middle" in answer.json()["error"]["message"]
        after = engine.ask()
        assert right(after) and kind(after) == "restored"


@pytest.mark.soak
def test_worker_killed_while_idle_is_not_noticed(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        for _ in range(5):
            assert right(engine.ask())
            worker = engine.worker()
            worker.kill()
            assert gone([worker])
            assert right(engine.ask()), "asked at once, before anybody had time to look"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"exit": signal.SIGSEGV}, "ended while it started"),
        ({"hang": True}, "did not answer within 1 s"),
        ({"shift": 0.001}, "differ from those before"),
        ({"shift": float("nan")}, "not finite"),
    ],
)
def test_restores_that_fail_are_answered_by_a_plain_start(
    tmp_path: Path, backend: str, told: dict[str, object], reason: str
) -> None:
    with EngineProcess(tmp_path, backend, DORMOUSE_RESTORE_TIMEOUT_S="1") as engine:
        assert kind(engine.ask()) == "created"
        engine.to_zero()
        script(tmp_path, restored=told)
        answer = engine.ask()
        assert right(answer) and kind(answer) == "plain"
        found = engine.status()
        assert found["fallbacks"] == 1 and reason in found["last_start"]["reason"] and found["snapshot"] is None
        assert len(engine.family()) == 1, "nothing of the failed restore is left"
        engine.to_zero()
        answer = engine.ask()  # the new snapshot's own first restore fails too: that was the second in a row
        assert right(answer) and kind(answer) == "plain"
        assert reason in engine.status()["disabled"]
        metrics = requests.get(engine.wait() + "/metrics", timeout=5).text
        assert f'snapshot_failures_total{{backend="{backend}",what="restore"}} 2.0' in metrics
        assert "dormouse_engine_backend_disabled 1.0" in metrics and "dormouse_answers_total" in metrics
        script(tmp_path)
        rebuilt = requests.post(engine.wait() + "/engine/rebuild", headers=engine.admin, timeout=40)
        assert rebuilt.json() == {"status": "zero"}
        assert kind(engine.ask()) == "created"
    assert "log" not in str(list(locate_runtime_dir(tmp_path).iterdir()))


@pytest.mark.soak
def test_embedder_that_does_not_start_is_told(tmp_path: Path, backend: str) -> None:
    script(tmp_path, fail_load="scripted: the model file is damaged, reinstall")
    with EngineProcess(tmp_path, backend) as engine:
        answer = engine.ask()
        assert answer.status_code == 503 and "damaged, reinstall" in answer.json()["error"]["message"]
        assert requests.get(engine.wait() + "/ready", timeout=5).status_code == 503
        assert engine.status()["state"] == "failed"
        script(tmp_path, exit_load=signal.SIGKILL)
        engine.until(lambda told: told["state"] == "zero")
        answer = engine.ask()
        assert answer.status_code == 503 and "its log has the reason" in answer.json()["error"]["message"]
        assert "ended while it started" in engine.status()["reason"]
        script(tmp_path)
        engine.until(lambda told: told["state"] == "zero")
        assert right(engine.ask())


def snapshot_folder(data: Path) -> Path:
    (found,) = (data / "snapshots").iterdir()
    return found


def largest(folder: Path) -> Path:
    return max((folder / "files").iterdir(), key=lambda path: path.stat().st_size)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The data folder of an engine that made a snapshot and stopped."""
    criu.need()
    with EngineProcess(tmp_path, "criu") as engine:
        assert kind(engine.ask()) == "created"
    return tmp_path


def restarted(data: Path, **environment: str) -> tuple[str, str]:
    """Start kind of the first answer of an engine on this folder, which must be right; and what it wrote."""
    with EngineProcess(data, "criu", **environment) as engine:
        answer = engine.ask()
        assert right(answer)
        return kind(answer), engine.tail


def test_snapshot_survives_the_engine_and_is_private(saved: Path) -> None:
    folder = snapshot_folder(saved)
    assert restarted(saved)[0] == "restored"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"embedder", "fingerprint", "code", "python", "kernel", "cpu", "criu", "package numpy"} <= set(
        manifest["identity"]
    )
    assert manifest["bytes"] == sum(path.stat().st_size for path in (folder / "files").iterdir())
    for path in (folder, *folder.rglob("*"), folder.parent):
        assert oct(path.stat().st_mode)[-3:] == ("700" if path.is_dir() else "600"), path


@pytest.mark.soak
@pytest.mark.parametrize(
    "how", ["truncated", "bit flipped", "bit flipped, time set back", "file missing", "file added"]
)
def test_damaged_snapshot_is_refused_and_made_again(saved: Path, how: str) -> None:
    folder = snapshot_folder(saved)
    path = largest(folder)
    before = path.stat()
    if how == "truncated":
        os.truncate(path, before.st_size - 4096)
    elif how.startswith("bit flipped"):
        with path.open("r+b") as stream:
            stream.seek(before.st_size // 2)
            byte = stream.read(1)[0]
            stream.seek(before.st_size // 2)
            stream.write(bytes([byte ^ 1]))
        if how.endswith("back"):
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "file missing":
        path.unlink()
    else:
        shutil.copy(path, path.with_name("pages-9.img"))
    found, log = restarted(saved)
    assert found == "created" and "is refused and removed" in log
    assert restarted(saved)[0] == "restored"


@pytest.mark.soak
def test_snapshot_damaged_while_the_engine_runs(saved: Path) -> None:
    with EngineProcess(saved, "criu") as engine:
        assert kind(engine.ask()) == "restored"
        engine.to_zero()
        os.truncate(largest(snapshot_folder(saved)), 4096)
        answer = engine.ask()
        assert right(answer) and kind(answer) == "created"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("package numpy", "1.0", "package numpy '1.0' there"),
        ("kernel", "Linux 3.2", "kernel 'Linux 3.2' there"),
        ("cpu", "another", "cpu 'another' there"),
        ("criu", "3.17", "criu '3.17' there"),
        ("fingerprint", "another model", "fingerprint 'another model' there"),
    ],
)
def test_snapshot_of_another_version_is_refused(saved: Path, name: str, value: str, told: str) -> None:
    path = snapshot_folder(saved) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["identity"][name] = value
    path.write_text(json.dumps(manifest))
    found, log = restarted(saved)
    assert found == "created" and told in log


@pytest.mark.soak
@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[" * 100_000, '{"version": 99}', '{"version": 1, "identity": 7}', "no probe", "odd probe"],
)
def test_manifest_that_is_none_is_refused(saved: Path, content: str) -> None:
    path = snapshot_folder(saved) / "manifest.json"
    if content.endswith("probe"):
        manifest = json.loads(path.read_text())
        manifest["probe"] = [["a"]]
        content = json.dumps({**manifest} if content == "odd probe" else {**manifest, "probe": None})
    path.write_text(content)
    found, log = restarted(saved)
    assert found == "created" and "is refused and removed" in log


@pytest.mark.soak
def test_foreign_snapshots_are_not_used_and_few_are_kept(saved: Path) -> None:
    folder = snapshot_folder(saved)
    for number in range(4):
        other = folder.with_name(f"{number:016x}")
        shutil.copytree(folder, other)
        os.utime(other, (number, number))
    (folder.parent / "left.part").mkdir()
    shutil.rmtree(folder)
    assert restarted(saved)[0] == "created"
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.name, "0000000000000003"])


def test_keys_are_in_no_snapshot_and_may_change_while_it_sleeps(tmp_path: Path) -> None:
    criu.need()
    first, second = "first-key-of-the-tests", "second-key-of-the-tests"
    with EngineProcess(
        tmp_path, "criu", DORMOUSE_API_KEYS=first, DORMOUSE_ADMIN_KEY="admin-in-the-environment"
    ) as engine:
        assert engine.ask().status_code == 401
        assert not (tmp_path / "starts.jsonl").exists(), "who has no key wakes nobody"
        assert kind(engine.ask(Authorization=f"Bearer {first}")) == "created"
    for path in snapshot_folder(tmp_path).rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert first.encode() not in data and b"admin-in-the-environment" not in data
    with EngineProcess(tmp_path, "criu", DORMOUSE_API_KEYS=second, DORMOUSE_MAX_TEXT_CHARS="6") as engine:
        assert engine.ask(Authorization=f"Bearer {first}").status_code == 401
        answer = engine.ask("short", Authorization=f"Bearer {second}")
        assert kind(answer) == "restored"
        longer = engine.ask("total due", Authorization=f"Bearer {second}")
        assert longer.status_code == 413, "limits are read again as well"
        (tmp_path / "admin.key").write_text("another-admin-key")
        engine.to_zero()
        assert kind(engine.ask("short", Authorization=f"Bearer {second}")) == "restored"


@pytest.mark.soak
def test_disk_full_leaves_what_is_there_and_answers(tmp_path: Path) -> None:
    criu.need()
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs a mount namespace for a small disk")
    snapshots = tmp_path / "snapshots"
    with EngineProcess(tmp_path, "criu") as engine:
        assert kind(engine.ask()) == "created"
    old = snapshot_folder(tmp_path)
    size = sum(path.stat().st_size for path in old.rglob("*"))
    room = size + 1_000_000
    small = tmp_path / "small.sh"
    small.write_text(
        f'mount -t tmpfs -o size={room} none {snapshots} && cp -a {tmp_path}/kept/. {snapshots}/ && exec "$@"\n'
    )
    shutil.copytree(snapshots, tmp_path / "kept")
    manifest = tmp_path / "kept" / old.name / "manifest.json"
    other = manifest.parent.rename(manifest.parent.with_name("0" * 16))  # of a release before: kept, not used
    engine_command = ["serving", "--embedder", NAME, "--snapshot", "criu", "--port", "0", "--data", str(tmp_path)]
    command = ["unshare", "-m", "sh", str(small), sys.executable, "-m", *engine_command]
    environment = {**os.environ, "DORMOUSE_CRIU": criu.tool() or ""}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split(" is ready at ")[1].strip()
            admin = {"X-Admin-Key": (tmp_path / "admin.key").read_text()}
            for _ in range(2):
                answer = requests.post(url + "/embed", json={"texts": ["total due"]}, timeout=60)
                assert right(answer) and kind(answer) == "plain"
                requests.post(url + "/engine/scaledown", headers=admin, timeout=40)
            told = requests.get(url + "/engine", headers=admin, timeout=10).json()
            assert told["failures"] == {"criu snapshot": 2} and told["disabled"]
            inside = Path(f"/proc/{process.pid}/root{snapshots}")
            assert [path.name for path in inside.iterdir()] == [other.name], "no part is left, the old one is"
            assert (inside / other.name / "manifest.json").exists()
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.soak
def test_engine_killed_and_started_again(tmp_path: Path, backend: str) -> None:
    for moment in ("serving", "starting", "zero"):
        engine = EngineProcess(tmp_path, backend)
        script(tmp_path, load_s=2 if moment == "starting" else 0)
        if moment == "starting":
            shutil.rmtree(tmp_path / "snapshots", ignore_errors=True)
            threading.Thread(target=lambda e=engine: contextlib.suppress(Exception) and quietly(e.ask)).start()
            engine.until(lambda told: told["state"] == "starting")
            time.sleep(0.5)
        else:
            engine.ask()
            if moment == "zero":
                engine.to_zero()
        family = engine.family()
        assert family or backend == "criu"
        engine.kill()
        assert gone(family), f"{moment}: {[process.cmdline() for process in family if process.is_running()]}"
        engine.stop()
    script(tmp_path)
    with EngineProcess(tmp_path, backend) as again:
        assert list(locate_runtime_dir(tmp_path).iterdir()) == []
        answer = again.ask()
        assert right(answer) and kind(answer) == ("restored" if backend == "criu" else "created")


def quietly(call: object) -> None:
    with contextlib.suppress(requests.RequestException):
        call()  # type: ignore[operator]


def test_second_engine_on_one_folder_says_so_and_stops(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "fork") as engine:
        assert right(engine.ask())
        command = [sys.executable, "-m", "serving", "--port", "0", "--data", str(tmp_path)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 2 and "another engine is using the folder" in second.stderr
        assert right(engine.ask())


@pytest.mark.soak
def test_client_that_leaves_while_it_waits(tmp_path: Path) -> None:
    script(tmp_path, load_s=2)
    with EngineProcess(tmp_path, "plain") as engine:
        engine.wait()
        for size in (10, 300_000):  # a body that is read at once, and one that stays in the socket
            text = json.dumps({"texts": ["x" * size]}).encode()
            with pytest.raises(requests.Timeout):
                requests.post(engine.wait() + "/embed", data=text, headers=JSON, timeout=0.5)
        found = engine.until(lambda told: told["waiting"] == 0, 1)
        assert found["state"] == "starting"
        assert right(engine.ask()), "the start goes on, and is one"
        assert len(engine.status()["history"]) == 1
        engine.until(lambda told: told["in_flight"] == 0 and told["waiting"] == 0)


@pytest.mark.soak
def test_client_that_leaves_while_the_worker_computes(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "fork") as engine:
        assert right(engine.ask())
        script(tmp_path, embed_s=2)
        with pytest.raises(requests.Timeout):
            engine.ask(timeout=0.5)
        engine.until(lambda told: told["in_flight"] == 0, 1.5)


@pytest.mark.soak
@pytest.mark.parametrize("size", [1, 3_000_000])
def test_hung_worker_is_killed_and_replaced(tmp_path: Path, size: int) -> None:
    """Stopped, so that it answers nothing and takes nothing; its client is told, the next one is served."""
    with EngineProcess(tmp_path, "fork", DORMOUSE_REQUEST_TIMEOUT_S="0.5") as engine:
        assert right(engine.ask())
        engine.worker().suspend()
        body = {"texts": ["total due"], "ignored": "x" * size}
        answer = requests.post(engine.wait() + "/embed", json=body, timeout=40)
        assert answer.status_code == 503 and "hung" in answer.json()["error"]["message"]
        assert right(engine.ask())


@pytest.mark.soak
def test_worker_that_does_not_stop_is_killed(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend, DORMOUSE_STOP_TIMEOUT_S="0.5") as engine:
        for _ in range(2):
            assert right(engine.ask())
            worker = engine.worker()
            worker.suspend()
            engine.to_zero()
            assert gone([worker])
    engine = EngineProcess(tmp_path, backend, DORMOUSE_STOP_TIMEOUT_S="0.5")
    assert right(engine.ask())
    worker = engine.worker()
    worker.suspend()
    engine.terminate()
    assert gone([worker]) and engine.stop() == 0 and "Traceback" not in engine.tail


@pytest.mark.soak
def test_rebuild_under_traffic(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        assert right(engine.ask())
        stopped = threading.Event()
        answers: list[requests.Response] = []

        def traffic() -> None:
            while not stopped.is_set():
                answers.append(engine.ask())

        asking = [threading.Thread(target=traffic) for _ in range(4)]
        for thread in asking:
            thread.start()
        for _ in range(3):
            rebuilt = requests.post(engine.wait() + "/engine/rebuild", headers=engine.admin, timeout=40)
            assert rebuilt.ok and rebuilt.elapsed.total_seconds() < 20
        stopped.set()
        for thread in asking:
            thread.join()
        assert all(right(answer) for answer in answers)
        assert [row["kind"] for row in engine.status()["history"]].count("created") >= 3
        assert engine.status()["failures"] == {}


@pytest.mark.soak
def test_a_log_that_nobody_reads_stops_nobody(tmp_path: Path) -> None:
    script(tmp_path, flood=3_000)
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "serving", "--embedder", NAME, "--snapshot", "plain", "--port", "0"]
    with subprocess.Popen([*command, "--data", str(tmp_path)], stdout=subprocess.PIPE, stderr=writing, text=True) as it:
        assert it.stdout is not None
        url = it.stdout.readline().split(" is ready at ")[1].strip()
        for _ in range(3):
            assert right(requests.post(url + "/embed", json={"texts": ["total due"]}, timeout=20))
        os.close(reading)
        assert right(requests.post(url + "/embed", json={"texts": ["total due"]}, timeout=20))
        it.terminate()
        assert it.wait(15) == 0
    os.close(writing)


@pytest.mark.soak
def test_run_folder_that_was_tidied_away(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        assert right(engine.ask())
        engine.to_zero()
        shutil.rmtree(locate_runtime_dir(tmp_path))
        answer = engine.ask()
        assert right(answer) and kind(answer) == "restored"


def test_answers_hold_no_path(tmp_path: Path, backend: str) -> None:
    script(tmp_path, missing_file="/root/.cache/secret-place/model.onnx")
    with EngineProcess(tmp_path, backend) as engine:
        answer = engine.ask()
        assert answer.status_code == 503 and "secret-place" not in answer.text and str(tmp_path) not in answer.text
        assert "secret-place" in engine.status()["reason"]


@pytest.mark.soak
def test_a_form_of_a_web_page_wakes_nobody(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "plain") as engine:
        answer = requests.post(engine.wait() + "/embed", data='{"texts": ["a"]}', timeout=5)
        assert answer.status_code == 400 and engine.status()["state"] == "zero"
        raw = (
            b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n10\r\n"
            b'{"texts": ["a"]}\r\n0\r\n\r\n'
        )
        with socket.create_connection(("127.0.0.1", int(engine.wait().rsplit(":", 1)[1])), timeout=30) as two_lengths:
            two_lengths.sendall(raw)
            head = two_lengths.recv(4096).lower()
            assert head.split()[1] in (b"200", b"400") and head.count(b"\r\ndate:") == 1


def test_engine_routes_need_the_admin_key(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "plain") as engine:
        url = engine.wait()
        for method, path in (
            ("GET", "/engine"), ("GET", "/engine/events"), ("POST", "/engine/scaledown"), ("POST", "/engine/rebuild"),
            ("POST", "/scaledown"), ("POST", "/sleep"), ("POST", "/wake_up"),
        ):  # fmt: skip
            for headers in ({}, {"X-Admin-Key": "wrong"}, {"Authorization": f"Bearer {engine.admin['X-Admin-Key']}"}):
                answer = requests.request(method, url + path, headers=headers, timeout=5)
                assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_admin_key"
        assert engine.status()["state"] == "zero"


def test_everything_but_embedding_is_answered_at_zero(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "plain") as engine:
        url = engine.wait()
        assert requests.get(url, timeout=5).json()["model"] == "scripted"
        assert requests.get(url + "/health", timeout=5).json() == {"status": "alive"}
        assert requests.get(url + "/ready", timeout=5).json() == {"status": "ready"}
        assert requests.get(url + "/v1/models", timeout=5).json()["data"][0]["id"] == "scripted"
        assert "dormouse_engine_worker_up 0.0" in requests.get(url + "/metrics", timeout=5).text
        for path, status in (("/docs", 404), ("/engine/x", 404), ("/embed/", 404)):
            assert requests.get(url + path, timeout=5).status_code == status
        assert requests.get(url + "/embed", timeout=5).status_code == 405
        assert requests.post(url + "/health", timeout=5).status_code == 405
        assert requests.post(url + "/embed", json={}, headers={"Host": "evil.example"}, timeout=5).status_code == 401
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=5) as raw:
            head = "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            raw.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
            assert b" 413 " in raw.recv(64)
        assert engine.status()["state"] == "zero" and engine.status()["history"] == []
        woken = requests.post(url + "/wake_up", headers=engine.admin, timeout=30)
        assert woken.json() == {"status": "serving"}
        assert requests.get(url + "/ready", timeout=5).json() == {"status": "ready"}
        assert engine.ask().headers["X-Boot-Requests"] == "1", "only embedding requests count"
        slept = requests.post(url + "/sleep?level=1", headers=engine.admin, timeout=30)
        assert slept.json() == {"status": "zero"}


@pytest.mark.soak
def test_events_tell_each_state_as_it_comes(tmp_path: Path, backend: str) -> None:
    script(tmp_path, load_s=0.3)
    with EngineProcess(tmp_path, backend, "--scaledown-window", "2") as engine:
        seen: list[str] = []
        ready = threading.Event()

        def watch() -> None:
            for told in engine.events():
                ready.set()
                if not seen or seen[-1] != told["state"]:
                    seen.append(told["state"])
                if seen[-1] == "zero" and "serving" in seen:
                    return

        watching = threading.Thread(target=watch)
        watching.start()
        assert ready.wait(10)
        assert right(engine.ask())
        watching.join(20)
        assert not watching.is_alive()
        assert seen[:2] == ["zero", "starting"] and seen[-1] == "zero" and "serving" in seen


@pytest.mark.soak
def test_stops_politely(tmp_path: Path, backend: str) -> None:
    """SIGTERM: what is in flight is finished, who watches is let go, exit code 0, nothing left."""
    engine = EngineProcess(tmp_path, backend)
    assert right(engine.ask())
    script(tmp_path, embed_s=1)
    watching = requests.get(engine.wait() + "/engine/events", headers=engine.admin, stream=True, timeout=30)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(engine.ask)
        engine.until(lambda told: told["in_flight"] == 1)
        family = engine.family()
        began = time.monotonic()
        engine.terminate()
        assert right(asking.result())
    assert gone(family) and engine.stop() == 0 and time.monotonic() - began < 10
    watching.close()
    assert "Traceback" not in engine.tail
    assert list(locate_runtime_dir(tmp_path).iterdir()) == []


@pytest.mark.soak
def test_stops_politely_in_the_middle_of_a_start(tmp_path: Path, backend: str) -> None:
    script(tmp_path, load_s=60)
    engine = EngineProcess(tmp_path, backend, DORMOUSE_DRAIN_S="4")
    engine.wait()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(engine.ask)
        engine.until(lambda told: told["state"] == "starting")
        family = engine.family()
        engine.terminate()
        answer = asking.result()
    assert answer.status_code == 503 and "stopping" in answer.json()["error"]["message"]
    assert gone(family) and engine.stop() == 0


def chunks(size: int, pause: float) -> Iterator[bytes]:
    yield b'{"texts": ["a"], "ignored": "'
    for _ in range(size):
        yield b"x" * 1_000_000
        time.sleep(pause)
    yield b'"}'


@pytest.mark.soak
def test_bodies_are_passed_on_without_being_held(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "fork") as engine:
        assert right(engine.ask())
        process = psutil.Process(engine.pid)
        before = process.memory_info().rss
        most = 0

        def measure() -> None:
            nonlocal most
            while not done.wait(0.01):
                most = max(most, process.memory_info().rss)

        done = threading.Event()
        measuring = threading.Thread(target=measure)
        measuring.start()
        headers = {"Content-Type": "application/json"}
        answer = requests.post(engine.wait() + "/embed", data=chunks(60, 0.0), headers=headers, timeout=60)
        done.set()
        measuring.join()
        assert answer.status_code == 200, answer.text
        assert most - before < 30_000_000, f"{(most - before) / 1e6:.0f} MB of a body of 60 MB"


def unusable(tmp_path: Path, name: str, **environment: str) -> str:
    command = [sys.executable, "-m", "serving", "--snapshot", name, "--port", "0", "--data", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    assert found.returncode == 2 and "Traceback" not in found.stderr, found.stderr
    return found.stderr


@pytest.mark.soak
def test_criu_missing_or_too_old(tmp_path: Path) -> None:
    old = tmp_path / "old-criu"
    old.write_text("#!/bin/sh\necho 'Version: 3.17.1'\n")
    broken = tmp_path / "broken-criu"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Version: 4.2' && exit 0\necho nonsense; exit 139\n")
    no_criu = tmp_path / "no-criu"
    no_criu.write_text("#!/bin/sh\nexit 1\n")
    for path in (old, broken, no_criu):
        path.chmod(0o755)
    for path, reason in (
        (tmp_path / "nowhere", "is not installed. Install criu"),
        (old, "is criu 3.17.1, too old"),
        (no_criu, "is no criu"),
        (broken, "criu 4.2 does not work here"),
    ):
        told = unusable(tmp_path, "criu", DORMOUSE_CRIU=str(path))
        assert reason in told and "--snapshot auto" in told
        with EngineProcess(tmp_path, "auto", DORMOUSE_CRIU=str(path)) as engine:
            assert right(engine.ask())
            found = engine.status()
            assert found["backend"] == "fork" and reason in found["refused"]["criu"]


@pytest.mark.soak
def test_user_namespaces_forbidden(tmp_path: Path) -> None:
    """In a namespace of this test's own, in which no more may be made."""
    path = criu.need()
    limit = "echo 0 > /proc/sys/user/max_user_namespaces; echo 0 > /proc/sys/user/max_pid_namespaces"
    command = f'{limit} && exec "$@"'
    environment = {**os.environ, "DORMOUSE_CRIU": path}
    found = subprocess.run(
        ["unshare", "-U", "-r", "sh", "-c", command, "sh", sys.executable, "-m", "serving", "--snapshot", "criu",
         "--port", "0", "--data", str(tmp_path)],
        capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert found.returncode == 2 and "does not work here (user namespace: " in found.stderr, found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scaledown-window", "1"], "scaledown_window: Input should be greater than or equal to 2"),
        (["--embedder", "nonsense"], "there is no embedder 'nonsense'"),
        (["--embedder", "json:Nothing"], "there is no embedder"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    command = [sys.executable, "-m", "serving", "--port", "0", "--data", str(tmp_path), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and told in found.stderr and "Traceback" not in found.stderr
