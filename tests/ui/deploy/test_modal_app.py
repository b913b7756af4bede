"""The page's Modal app without a cloud: `tests/modal/test_page.py` deploys it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import modal
import pytest

from serving.settings import PREFIX, Settings
from tests.support.repository import ROOT
from ui.deploy import modal_app
from ui.deploy.modal_app import Deployment, VolumeClaims, list_requirements, read_deployment


def test_image_has_the_pins_of_the_base_installation() -> None:
    found = list_requirements()
    assert "gradio==6.31.0" in found and "usearch==2.26.6" in found and "modal==1.6.4" in found
    assert any(name.startswith("psycopg[") for name in found), "for a store"
    assert not any(name.startswith(("torch", "vllm", "colpali")) for name in found)


def test_container_reads_the_same_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Deployment(
        volume="mine", hosts="pages.example.org", workers="A=modal:a", scaledown_window=7, use_store=True
    )
    for name, value in given.environment.items():
        monkeypatch.setenv(name, value)
    assert Deployment() == given
    assert not Settings().keep_originals, "each acknowledgement would wait for them"
    monkeypatch.setenv(
        "DORMOUSE_KEEP_ORIGINALS", Deployment(keep_originals=True).environment["DORMOUSE_KEEP_ORIGINALS"]
    )
    assert Settings().keep_originals


@pytest.mark.parametrize(
    ("name", "value"),
    [("DORMOUSE_PAGE_SCALEDOWN_WINDOW", "1"), ("DORMOUSE_PAGE_MOUNT", "kept"), ("DORMOUSE_PAGE_APP", "a b")],
)
def test_wrong_settings_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"{name}={value}: "):
        read_deployment()


PYTHON = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "modal":
            raise ImportError(name)
if sys.argv[1] == "without":
    sys.meta_path.insert(0, Missing())
import ui.app
assert "modal" not in sys.modules, "the page on this machine does not need it"
try:
    print(type(ui.app.app).__name__, ui.app.app.name)
except ImportError:
    print("no modal")
try:
    ui.app.nothing
except AttributeError as error:
    print(error)
"""


@pytest.mark.parametrize(("way", "told"), [("with", "App dormouse"), ("without", "no modal")])
def test_file_has_the_app_only_for_who_asks(way: str, told: str) -> None:
    command = [sys.executable, "-c", PYTHON, way]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == [told, "module 'ui.app' has no attribute 'nothing'"]


class Shared:
    """A double of Modal's dictionary."""

    def __init__(self) -> None:
        self.entries: dict[int, str] = {}

    def put(self, key: int, value: str, *, skip_if_exists: bool) -> bool:
        assert skip_if_exists
        fresh = key not in self.entries
        self.entries.setdefault(key, value)
        return fresh

    def contains(self, key: int) -> bool:
        return key in self.entries


def test_numbers_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared()
    monkeypatch.setattr(modal, "Dict", SimpleNamespace(from_name=lambda name, create_if_missing: shared))
    one, two = VolumeClaims("claims"), VolumeClaims("claims")
    assert one.take_number(3) == 4 and not one.is_superseded(4)
    assert two.take_number(3) == 5
    assert one.is_superseded(4) and not two.is_superseded(5)
    shared.entries.clear()  # Modal forgets what nobody asked for in a week; the volume's copies are still numbered
    assert one.take_number(5) == 6


class Opened:
    """A volume that cannot show what others wrote while a file is open."""

    def __init__(self, times: int, told: str = "there are open files preventing the operation") -> None:
        self.times = times
        self.told = told
        self.commits = 0

    def commit(self) -> None:
        self.commits += 1
        if self.commits <= self.times:
            raise RuntimeError(self.told)


@pytest.mark.parametrize(("volume", "commits"), [(Opened(0), 1), (Opened(3), 4)])
def test_open_pictures_do_not_stop_a_commit(monkeypatch: pytest.MonkeyPatch, volume: Opened, commits: int) -> None:
    monkeypatch.setattr(modal_app, "PAUSE_S", 0)
    modal_app.retry_while_open(volume.commit)
    assert volume.commits == commits


@pytest.mark.parametrize("volume", [Opened(99), Opened(99, "volume vo-1 not found")])
def test_other_faults_of_a_commit_are_told(monkeypatch: pytest.MonkeyPatch, volume: Opened) -> None:
    monkeypatch.setattr(modal_app, "PAUSE_S", 0)
    with pytest.raises(RuntimeError, match=volume.told):
        modal_app.retry_while_open(volume.commit)
    assert volume.commits == (1 if "not found" in volume.told else modal_app.TRIES)


def test_page_imports_onnxruntime_before_usearch() -> None:
    """In the container's order; the other one ends the process."""
    code = (
        "import aiohttp\nfrom serving.library.backup import Backup\n"
        "from ui.deploy.container import HostedPage\nprint('alive')"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "alive", found.stderr


def test_no_variable_of_a_deployment_is_a_setting_of_the_page_or_the_engine() -> None:
    """A container has both in its environment."""
    prefix = str(Deployment.model_config["env_prefix"])
    of_deployment = {
        str(field.validation_alias or prefix + name.upper()) for name, field in Deployment.model_fields.items()
    }
    of_settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert "DORMOUSE_WORKERS" in of_deployment and not of_deployment & of_settings
