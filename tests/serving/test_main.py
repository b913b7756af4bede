"""`python -m serving` with real processes, real criu and real forks; the embedder is scripted so that it can fail.

What matters most is asked again of the real embedder in engine/test_builtin_engine.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from serving import __main__ as engine_main
from serving.engine.pool import share_cores
from serving.engine.runtime_dir import locate_runtime_dir
from tests.support import criu
from tests.support.engines import EngineProcess, have_ended, is_right, kind
from tests.support.scripted_engine import NAME, script


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
        assert all(is_right(answer) for answer in answers)
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
        assert is_right(answer)
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
        assert is_right(answer) and kind(answer) == "created"


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
                assert is_right(answer) and kind(answer) == "plain"
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
        assert have_ended(family), f"{moment}: {[process.cmdline() for process in family if process.is_running()]}"
        engine.stop()
    script(tmp_path)
    with EngineProcess(tmp_path, backend) as again:
        assert list(locate_runtime_dir(tmp_path).iterdir()) == []
        answer = again.ask()
        assert is_right(answer) and kind(answer) == ("restored" if backend == "criu" else "created")


def quietly(call: object) -> None:
    with contextlib.suppress(requests.RequestException):
        call()  # type: ignore[operator]


def test_second_engine_on_one_folder_says_so_and_stops(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "fork") as engine:
        assert is_right(engine.ask())
        command = [sys.executable, "-m", "serving", "--port", "0", "--data", str(tmp_path)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 2 and "another engine is using the folder" in second.stderr
        assert is_right(engine.ask())


@pytest.mark.soak
def test_stops_politely(tmp_path: Path, backend: str) -> None:
    """SIGTERM: what is in flight is finished, who watches is let go, exit code 0, nothing left."""
    engine = EngineProcess(tmp_path, backend)
    assert is_right(engine.ask())
    script(tmp_path, embed_s=1)
    watching = requests.get(engine.wait() + "/engine/events", headers=engine.admin, stream=True, timeout=30)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(engine.ask)
        engine.until(lambda told: told["in_flight"] == 1)
        family = engine.family()
        began = time.monotonic()
        engine.terminate()
        assert is_right(asking.result())
    assert have_ended(family) and engine.stop() == 0 and time.monotonic() - began < 10
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
    assert have_ended(family) and engine.stop() == 0


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
            assert is_right(engine.ask())
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


# How many workers


@pytest.mark.parametrize(
    ("cpu", "workers", "gpus", "chosen"),
    [
        (True, 0, ["a", "b"], [""]),
        (True, 3, [], ["", "", ""]),
        (False, 0, [], [""]),
        (False, 0, ["a"], [""]),
        (False, 0, ["a", "b", "c"], ["a", "b", "c"]),
        (False, 2, ["a", "b", "c"], ["a", "b"]),
        (False, 1, ["a", "b"], ["a"]),
    ],
)
def test_each_worker_on_a_gpu_has_one(
    monkeypatch: pytest.MonkeyPatch, cpu: bool, workers: int, gpus: list[str], chosen: list[str]
) -> None:
    monkeypatch.setattr(engine_main, "list_gpus", lambda: gpus)
    assert engine_main.choose_gpus(cpu, workers) == chosen


@pytest.mark.parametrize(("workers", "gpus"), [(2, []), (2, ["a"]), (3, ["a", "b"])])
def test_more_workers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch, workers: int, gpus: list[str]) -> None:
    monkeypatch.setattr(engine_main, "list_gpus", lambda: gpus)
    with pytest.raises(engine_main.TooManyWorkers, match=f"here is {len(gpus) or 'none'}"):
        engine_main.choose_gpus(False, workers)


def test_workers_that_cannot_be_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for count in ("-1", "65"):
        found = subprocess.run(
            [sys.executable, "-m", "serving", "--workers", count, "--data", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert found.returncode == 2 and "workers" in found.stderr and "Traceback" not in found.stderr


def test_cores_are_shared() -> None:
    assert [share_cores(8, count) for count in (1, 2, 3, 8, 9)] == [8, 4, 2, 1, 1]
