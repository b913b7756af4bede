"""The small cloud itself: what it does with the sample app is what Modal's documentation says of Modal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import modal
import psutil
import pytest
import requests
from grpclib.const import Status

from tests.modal.cloud import PROXY_TOKEN, START_S, Cloud
from tests.modal.conftest import APPS, KEYS, Sample
from tests.modal.containers import REPOSITORY, strays
from tests.modal.disk import Disk

pytestmark = pytest.mark.soak

# Deployment


def test_what_the_client_declares_is_kept(sample: Sample) -> None:
    function = sample.cloud.function("sample", "Server.*")
    assert function.checkpointing_enabled
    assert function.experimental_options == {"enable_gpu_snapshot": "True"}
    assert function.resources.gpu_config.gpu_type == "L40S"
    assert function.autoscaler_settings.scaledown_window == 60
    assert function.max_concurrent_inputs == 4
    assert function.startup_timeout_secs == 120
    assert [mount.mount_path for mount in function.volume_mounts] == [str(sample.mount)]
    assert not function._experimental_enable_gpu_snapshot
    page = sample.cloud.function("sample", "page")
    assert page.webhook_config.requires_proxy_auth
    lines = [line for image in sample.cloud.images for line in image.dockerfile_commands]
    assert any("starlette" in line for line in lines)
    assert sample.cloud.apps()["sample"].classes.keys() == {"Server"}
    assert sample.cloud.environment("sample", "Server.*") == {
        "FROM_IMAGE": "a picture of 2 words",
        "SAMPLE_MOUNT": str(sample.mount),
        "SAMPLE_NAME": "sample",
        "INNER": "x",
        **KEYS,
    }
    assert not sample.cloud.plane.unknown, "a call of the client's had no handler"


def test_a_container_has_what_was_declared_and_nothing_else(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TEST", "not for containers")
    sample.to_zero()
    state = sample.state()
    assert state["environment"] == {
        "FROM_IMAGE": "a picture of 2 words",
        "API_KEY": KEYS["API_KEY"],
        "INNER": "x",
        "MODAL_ENABLE_SNAP_RESTORE": "1",
        "SECRET_OF_THE_TEST": None,
    }
    assert Path(state["file"]) == Path(state["cwd"]) / "sample.py"
    assert sample.mount.resolve() == sample.cloud.volume("sample-cache").resolve()


def test_what_was_uploaded_can_be_all_that_a_container_has(sample: Sample) -> None:
    uploaded = sample.cloud.uploaded("sample", "Server.*")
    assert {"/root/sample.py", "/root/sample_words.py", "/root/assets/__init__.py"} <= set(uploaded)
    assert uploaded["/root/sample.py"] == (APPS / "sample.py").read_bytes()
    disk, app = sample.cloud.disk, sample.cloud.app("sample")
    root = disk.root(app, "Server.*")
    assert {path.name for path in root.iterdir() if path.name != "__pycache__"} == {"sample.py", "sample_words.py"}
    assert REPOSITORY in disk.sources(root)
    strict = Disk(sample.cloud.folder / "strict", sample.cloud.registry, uploaded_only=True)
    root = strict.root(app, "Server.*")
    assert {f"/root/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file()} == set(uploaded)
    assert strict.sources(root) == [root]


def test_a_mount_path_that_is_taken_is_told(sample: Sample, tmp_path: Path) -> None:
    other = Sample(sample.cloud, tmp_path / "taken", "taken")
    other.mount.mkdir()
    other.deploy()
    response = other.get()
    assert response.status_code == 500
    assert "deploy with another mount path" in response.text


def test_a_missing_secret_stops_the_deployment(sample: Sample) -> None:
    del sample.cloud.secrets["sample-keys"]
    done = sample.cloud.deploy(APPS / "sample.py", env={"SAMPLE_NAME": "other"})
    assert done.returncode == 1
    assert "Secret 'sample-keys' not found" in done.stdout + done.stderr
    assert "other" not in sample.cloud.apps()
    sample.cloud.secrets["sample-keys"] = {"OTHER": "key"}
    with sample.cloud.client(), pytest.raises(modal.exception.Error, match="API_KEY"):
        modal.Secret.from_name("sample-keys", required_keys=["API_KEY"]).hydrate()


def test_a_refusal_is_told_by_the_client(sample: Sample) -> None:
    sample.cloud.fail("FunctionCreate", Status.INVALID_ARGUMENT, "GPU type L40S is not available")
    done = sample.cloud.deploy(APPS / "sample.py", env={"SAMPLE_NAME": "other"})
    assert done.returncode == 1
    assert "GPU type L40S is not available" in done.stdout + done.stderr
    assert "other" not in sample.cloud.apps()


def test_a_wrong_token_is_refused(sample: Sample) -> None:
    with sample.cloud.client() as client:
        client.hello()
        wrong = modal.Client.from_credentials("ak-local", "wrong")
        with pytest.raises(modal.exception.AuthError, match="Token validation failed"):
            wrong.hello()
        wrong.close()


# Requests


def test_bodies_stream_both_ways(sample: Sample) -> None:
    def body() -> Iterator[bytes]:
        yield b"first"
        sample.cloud.until(lambda: "echo 5 " in sample.log)  # it has this part before we send the next one
        yield b"x" * 5_000_000

    headers = {"Content-Type": "text/custom"}
    response = requests.post(sample.url + "/echo", data=body(), headers=headers, timeout=START_S)
    assert response.headers["Content-Type"].startswith("text/custom")
    assert response.content == b"first" + b"x" * 5_000_000
    assert response.headers["modal-function-call-id"].startswith("fc-")
    assert sample.get("/state?a=b&a=c").json()["query"] == {"a": "c"}


def test_a_client_that_leaves_is_noticed(sample: Sample) -> None:
    before = sample.log.count("left")
    with sample.get("/events", stream=True) as stream:
        lines = (line for line in stream.iter_lines() if line)
        assert json.loads(next(lines).removeprefix(b"data: "))["n"] == 0
        assert json.loads(next(lines).removeprefix(b"data: "))["n"] == 1
    sample.cloud.until(lambda: sample.log.count("left") == before + 1)


def test_a_long_request_is_sent_to_its_result(sample: Sample) -> None:
    sample.to_zero()
    sample.cloud.redirect_after_s = 0.2
    seen: list[str] = []

    def redirected(response: requests.Response, **_: object) -> None:
        if response.status_code == 303:
            seen.append(response.headers["Location"])
            if len(seen) == 2:  # the result's address redirects as well
                sample.release("redirected")

    with requests.Session() as session:
        session.max_redirects = 1000
        session.hooks["response"].append(redirected)
        answer = session.post(sample.url + "/hold?until=redirected", data=b"body", timeout=START_S)
    assert (answer.status_code, answer.text) == (200, "done")
    assert len(seen) >= 2
    assert len(set(seen)) == 1


def test_without_a_proxy_token_nothing_starts(sample: Sample) -> None:
    url, (key, secret) = sample.cloud.web_url("sample", "page"), PROXY_TOKEN
    sample.to_zero()
    for headers in ({}, {"Modal-Key": key}, {"Modal-Key": key, "Modal-Secret": "no"}, {"Authorization": "Bearer no"}):
        assert requests.get(url, headers=headers, timeout=START_S).status_code == 401
    assert sample.cloud.containers("sample") == []
    right = {"Modal-Key": key, "Modal-Secret": secret}
    assert requests.get(url, headers=right, timeout=START_S).text == "page"
    bearer = {"Authorization": f"Bearer {key}.{secret}"}
    assert requests.get(url, headers=bearer, timeout=START_S).text == "page"


def test_methods_are_called_without_http(sample: Sample) -> None:
    with sample.cloud.client():
        server = modal.Cls.from_name("sample", "Server")()
        assert server.words.remote(1) == ["dormouse"]
        assert server.web.get_web_url() == sample.url


# Volumes, logs, apps


def test_volume_commits_are_counted_and_logs_are_fetched(sample: Sample) -> None:
    commits, reloads = sample.cloud.commits["sample-cache"], sample.cloud.reloads["sample-cache"]
    assert sample.get("/commit").text == "committed"
    assert sample.cloud.commits["sample-cache"] == commits + 1
    assert sample.cloud.reloads["sample-cache"] > reloads  # a commit reloads as well
    assert sample.get("/fails").status_code == 500
    container = sample.container()
    assert "this route fails" in container.log
    logs = sample.cloud.modal("container", "logs", container.task_id)
    assert "this route fails" in logs.stdout


def test_a_stopped_app_is_not_found(sample: Sample) -> None:
    other = Sample(sample.cloud, sample.mount, "stopped")
    other.deploy()
    url, container = other.url, other.container()
    history = sample.cloud.modal("app", "history", "stopped", "--json")
    assert len(json.loads(history.stdout)) == 1
    stopped = sample.cloud.modal("app", "stop", "stopped", "-y")
    assert stopped.returncode == 0, stopped.stderr
    sample.cloud.until(lambda: not container.alive)
    assert requests.get(url, timeout=START_S).status_code == 404
    with sample.cloud.client(), pytest.raises(modal.exception.NotFoundError):
        modal.Cls.from_name("stopped", "Server")().web.get_web_url()


def test_the_workspace_has_prices(sample: Sample) -> None:
    sample.cloud.rates["gpu_l40s"] = "0.000542"
    with sample.cloud.client():
        assert str(modal.Workspace.from_context().billing.rates()["gpu_l40s"]) == "0.000542"


# The end


def wait_for_end(pids: list[int]) -> None:
    """An orphan may stay a while as a zombie: whoever adopted it has to fetch its exit code."""

    def runs(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    ends = time.monotonic() + START_S
    while left := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < ends, f"still there: {left}"
        time.sleep(0.05)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Cloud() as cloud:
        cloud.secrets["sample-keys"] = dict(KEYS)
        sample = Sample(cloud, tmp_path / "cache")
        sample.deploy()
        pids = [sample.container().pid]
        cloud.until(lambda: len(strays(cloud.folder)) == 2)  # and the one that stands for the snapshot
        pids += [process.pid for process in strays(cloud.folder)]
        served = cloud.serve(APPS / "sample.py", env={"SAMPLE_MOUNT": str(tmp_path / "cache")})
        pids.append(served.process.pid)
        _ = 1 / 0
    wait_for_end(pids)
    assert not cloud.folder.exists()
    assert not sample.mount.is_symlink()
    assert not cloud._thread.is_alive()


ABANDONED = """
import sys, time
from pathlib import Path
from tests.modal.cloud import Cloud
from tests.modal.conftest import KEYS, Sample

cloud = Cloud().__enter__()
cloud.secrets["sample-keys"] = dict(KEYS)
sample = Sample(cloud, Path(sys.argv[1]))
sample.deploy()
print(sample.container().pid, cloud.folder, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_containers_end_with_whoever_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ABANDONED, str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY) as process:
        assert process.stdout
        pid, folder = process.stdout.readline().split()
        process.kill()
    wait_for_end([int(pid), *(process.pid for process in strays(Path(folder)))])
    assert strays(Path(folder)) == []
    shutil.rmtree(folder)
