"""`dormouse deploy`, `status` and `destroy` against the local cloud: the real client deploys, nothing is ever woken."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from grpclib.const import Status

from serving.cloud.credentials import FILE
from tests.modal.cloud import PROXY_TOKEN, Cloud
from tests.modal.containers import REPOSITORY
from tests.modal.workspace import Workspace
from tests.support.modal_apps import APP, EMBEDDER
from ui.deploy import deploy, status

PARTS = ["bigemma3-hf-serve", "bigemma3-vllm-serve", "dormouse"]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A container's own disk is new with each; this machine's may have a library of another release there.
    for name, value in {
        **EMBEDDER,
        "DORMOUSE_DATA": str(tmp_path),
        "DORMOUSE_PAGE_DATA": str(tmp_path / "disk"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("HF_TOKEN", "HUGGINGFACE_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def workspace(cloud: Cloud, data: Path) -> Iterator[Workspace]:
    """The commands of this process talk to the cloud."""
    found = Workspace(cloud)
    with cloud.client():
        yield found


def test_from_nothing_to_all_three_and_back(
    workspace: Workspace, data: Path, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    cloud = workspace.cloud
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert deploy.main(["--yes", "--no-hub-check"]) == 0
    out = capfd.readouterr().out
    assert sorted(cloud.apps()) == PARTS and all(f"{app} " in out for app in PARTS)
    assert (
        "Modal's price list, as pages of May to October 2026 give it, 2026-11-23" in out and "At zero: nothing" in out
    )
    assert "App deployed" in out and "Next: `python -m bench prime`" in out
    assert all(cloud.web_url(app) in out for app in PARTS)

    kept = json.loads((data / FILE).read_text())
    assert stat.S_IMODE((data / FILE).stat().st_mode) == 0o600
    secret, page = cloud.secrets["dormouse"], cloud.secrets["dormouse-page"]
    assert secret == {
        "HF_TOKEN": "hf_mine",
        "DORMOUSE_API_KEYS": kept["DORMOUSE_WORKER_KEY"],
        "DORMOUSE_ADMIN_KEY": kept["DORMOUSE_ADMIN_KEY"],
    }
    assert page == kept and all(len(value) >= 20 for value in kept.values())
    assert (kept["DORMOUSE_MODAL_KEY"], kept["DORMOUSE_MODAL_SECRET"]) in cloud.proxy_tokens - {PROXY_TOKEN}
    assert not any(value in out for value in [*kept.values(), "hf_mine"]), "no key is shown"

    # A job with more containers was killed: the next deployment puts its limit back, and says so.
    note = data / f"modal-limit-{APP}.json"
    note.write_text(json.dumps({"app": APP, "before": 1, "raised": 3}))
    cloud.change_limit(APP, 3)
    assert deploy.main(["--yes", "--no-hub-check", "--only", "hf"]) == 0
    again = capfd.readouterr().out
    assert f"the limit of containers of {APP} was 1, and 3 meanwhile" in again and not note.exists()
    assert cloud.pool(APP, "Worker.*").settings.max_containers == 1
    assert (
        "the secret dormouse exists" in again
        and "this machine has a proxy token" in again
        and "created the secret" not in again
    )
    assert json.loads((data / FILE).read_text()) == kept and cloud.app(APP).version == 2
    assert "python -m bench prime --mode huggingface" in again and "dormouse-page" not in again

    assert deploy.destroy_main(["--yes", "--volumes"]) == 0
    gone = capfd.readouterr().out
    assert cloud.apps() == {} and gone.index("stopped dormouse") < gone.index(f"stopped {APP}")
    assert sorted(workspace.deleted) == ["dormouse-compiled", "dormouse-pages", "dormouse-weights"]
    assert deploy.destroy_main(["--yes"]) == 0 and "nothing to stop" in capfd.readouterr().out
    assert not cloud.past and not cloud.containers(), "nothing of all this started a container"


@pytest.mark.soak
def test_the_page_lets_in_who_has_the_password_that_was_kept(
    workspace: Workspace, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert deploy.main(["--yes", "--no-hub-check", "--only", "page"]) == 0
    url = workspace.cloud.web_url("dormouse")
    password = json.loads((data / FILE).read_text())["DORMOUSE_PAGE_PASSWORD"]
    assert requests.get(url, timeout=150).status_code == 401
    assert requests.get(url, timeout=150, auth=("dormouse", "guessed")).status_code == 401
    seen = requests.get(url, timeout=150, auth=("dormouse", password))
    assert seen.status_code == 200 and "gradio" in seen.text


@pytest.mark.soak
def test_status_tells_zero_without_waking(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: Output) -> None:
    cloud = workspace.cloud
    cloud.secrets["dormouse"] = {}
    assert cloud.deploy("serving/serve_hf_snapshot.py", env=EMBEDDER).returncode == 0
    app_id = cloud.app(APP).app_id
    workspace.bill += [(app_id, "1.25"), (app_id, "0.5"), ("ap-of-somebody-else", "9")]
    assert status.main([]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "workspace local" and len(lines) == 4
    assert lines[1].startswith(f"{APP}      v1, ") and "at zero, window 60 s, $1.75 this month" in lines[1]
    assert lines[1].endswith(cloud.web_url(APP))
    assert "not deployed: run `modal deploy serving/serve_vllm_snapshot.py`" in lines[2]

    cloud.fail("WorkspaceBillingReport", Status.PERMISSION_DENIED, "not yours")
    cloud.fail("FunctionGetCurrentStats", Status.INTERNAL, "counting")
    assert status.main(["--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    row = found["apps"][0]
    assert (row["deployed"], row["containers"], row["cost"]) == (True, None, None)
    assert "counting" in row["note"] and "this token may not do that (not yours)" in found["bill"]
    assert not cloud.past and not cloud.containers()


def test_a_dry_run_asks_nobody(workspace: Workspace, capfd: Output) -> None:
    assert deploy.main(["--dry-run", "--only", "vllm", "--only", "page"]) == 0
    out = capfd.readouterr().out
    assert [line.strip() for line in out.splitlines() if line.startswith("  modal deploy")] == [
        "modal deploy serving/serve_vllm_snapshot.py",
        "modal deploy ui/app.py",
    ]
    assert "modal secret create dormouse HF_TOKEN=$HF_TOKEN" in out and "proxy-tokens create" in out
    assert not workspace.cloud.plane.calls


def test_what_is_missing_is_said_and_nothing_is_made(
    workspace: Workspace, data: Path, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    cloud = workspace.cloud
    assert deploy.main(["--yes", "--no-hub-check"]) == 1
    out = capfd.readouterr().out
    assert "run `modal secret create dormouse HF_TOKEN=hf_...`" in out
    monkeypatch.setenv("DORMOUSE_PAGE_PASSWORD", "short")
    assert deploy.main(["--yes", "--only", "page"]) == 1
    assert "DORMOUSE_PAGE_PASSWORD is too short" in capfd.readouterr().out
    cloud.secrets["dormouse-page"] = {"DORMOUSE_WORKER_KEY": "api"}
    assert deploy.main(["--yes", "--only", "page"]) == 1
    told = capfd.readouterr().out
    assert "DORMOUSE_PAGE_PASSWORD" in told and "run `modal secret delete dormouse-page`, then this again" in told
    del cloud.secrets["dormouse-page"]
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert deploy.main(["--no-hub-check", "--only", "hf"]) == 1
    assert "Nobody can be asked here: add --yes" in capfd.readouterr().err
    assert not (data / FILE).exists() and not cloud.secrets and not cloud.apps()


@pytest.mark.soak
def test_a_deployment_that_fails_ends_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: Output) -> None:
    cloud = workspace.cloud
    cloud.secrets["dormouse"] = {}
    cloud.fail("AppPublish", Status.FAILED_PRECONDITION, "the workspace is over its limit")
    assert deploy.main(["--yes", "--no-hub-check", "--only", "hf", "--only", "vllm"]) == 1
    said = capfd.readouterr()
    assert "`modal deploy serving/serve_hf_snapshot.py` ended with exit code 1" in said.err
    assert "serve_vllm" not in said.out.partition("$ modal")[2] and "over its limit" in said.out + said.err
    monkeypatch.setenv("DORMOUSE_MODAL_GPU", "L40S:2")
    with pytest.raises(SystemExit, match="DORMOUSE_MODAL_GPU=L40S:2"):
        deploy.main(["--yes"])


@pytest.mark.soak
def test_a_machine_without_a_price_is_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    monkeypatch.setenv("DORMOUSE_MODAL_GPU", "X9000")
    assert deploy.main(["--dry-run", "--only", "hf"]) == 0
    assert "no price is known for 'X9000'" in capfd.readouterr().out


@pytest.mark.parametrize(("said", "code"), [("y\n", 0), ("\n", 1), ("no\n", 1), ("", 1)])
def test_destroy_asks_first(
    said: str, code: int, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    cloud = workspace.cloud
    cloud.secrets["dormouse"] = {}
    assert cloud.deploy("serving/serve_hf_snapshot.py", env=EMBEDDER).returncode == 0
    terminal = io.StringIO(said)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    assert deploy.destroy_main([]) == code
    assert "Stop and delete for good: bigemma3-hf-serve? [y/N]" in capfd.readouterr().out
    assert (APP in cloud.apps()) == (code == 1) and workspace.deleted == []


@pytest.mark.soak
@pytest.mark.parametrize("command", ["deploy", "status", "destroy"])
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MODAL_TOKEN_ID": ""}, "no token of a Modal account is set here: run `python -m modal setup`"),
        ({"MODAL_TOKEN_SECRET": "wrong"}, "Modal refused the token (Token validation failed"),
    ],
)
def test_no_account_and_a_wrong_token(
    command: str, environment: dict[str, str], said: str, cloud: Cloud, data: Path
) -> None:
    words = ["--no-hub-check"] if command == "deploy" else []
    done = subprocess.run(
        [sys.executable, "-m", "ui", command, *words], cwd=REPOSITORY, text=True, capture_output=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **cloud.env, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and said in done.stdout + done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_client(data: Path, monkeypatch: pytest.MonkeyPatch, capfd: Output) -> None:
    monkeypatch.setitem(sys.modules, "modal", None)
    for command in (deploy.main, status.main, deploy.destroy_main):
        assert command([]) == 1
        assert "pip install 'dormouse-search[modal]'" in capfd.readouterr().err
