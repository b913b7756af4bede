"""The password in front of the page: who comes in, by which host, and what others are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests
from gradio_client import Client
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serving.http.child_server import ServerProcess
from tests.support.servers import ScriptedWorker
from ui.access import password
from ui.access.password import PasswordGate

ME = ("dormouse", "correct horse")
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def own_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_PAGE_PASSWORD", ME[1])
    monkeypatch.setattr(password, "WRONG_S", 0.01)


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("inside")(scope, receive, send)


def page_behind(why: str = "") -> TestClient:
    return TestClient(PasswordGate(inside, lambda: why), base_url="https://page.modal.run")


def test_only_who_has_the_password_comes_in() -> None:
    client = page_behind()
    answer = client.get("/pages/0123456789abcdef.jpg")
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic ")
    for wrong in [("dormouse", "wrong horse"), ("", ME[1]), ("dormouse", ""), ("Dormouse", ME[1])]:
        assert client.get("/", auth=wrong).status_code == 401
    for odd in ["Basic", "Basic !!!", "Bearer " + ME[1], "Basic " + "A" * 100_000]:
        assert client.get("/", headers={"Authorization": odd}).status_code == 401
    assert client.get("/", auth=ME).text == "inside"


def test_user_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_PAGE_USER", "zoë")
    assert page_behind().get("/", auth=ME).status_code == 401
    assert page_behind().get("/", auth=("zoë", ME[1])).status_code == 200


@pytest.mark.parametrize("value", ["", "short"])
def test_without_a_password_nobody_comes_in(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DORMOUSE_PAGE_PASSWORD", value)
    answer = page_behind().get("/", auth=("dormouse", value))
    assert answer.status_code == 403 and "DORMOUSE_PAGE_PASSWORD" in answer.text
    monkeypatch.setenv("DORMOUSE_PAGE_PUBLIC", "1")
    assert page_behind().get("/").status_code == (200 if not value else 403)


@pytest.mark.parametrize(
    ("host", "status"),
    [("page.modal.run", 200), ("PAGE.example.org", 200), ("modal.run.evil.example", 421), ("other.example.org", 421)],
)
def test_only_its_own_names_are_answered(host: str, status: int) -> None:
    inner = PasswordGate(inside, lambda: "")
    inner.allowed_hosts = ("*.modal.run", "page.example.org")
    assert TestClient(inner).get("/", auth=ME, headers={"Host": host}).status_code == status


def test_reason_is_told_while_the_library_is_not_open() -> None:
    answer = page_behind("<b>library-00000001.db is damaged").get("/", auth=ME)
    assert answer.status_code == 503 and "&lt;b&gt;library-00000001.db is damaged" in answer.text
    assert answer.headers["retry-after"] == "5"


def test_hosts_are_matched_whole_or_below_a_name() -> None:
    assert password.host_matches("a.modal.run", "*.modal.run") and password.host_matches("x.org", "x.org")
    assert not any(password.host_matches(host, "*.modal.run") for host in ("modal.run", "evilmodal.run", ""))


# The real page


def test_password_in_front_of_every_page(
    scripted: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--no-browser", "--worker", scripted.url, "--data", str(tmp_path / "page")]
    monkeypatch.setenv("DORMOUSE_PAGE_PASSWORD", "short")
    done = subprocess.run([sys.executable, "-m", "ui.app", *words, "--port", "0"], capture_output=True, timeout=120)
    assert done.returncode == 2 and b"password of this page is too short" in done.stderr
    monkeypatch.setenv("DORMOUSE_PAGE_PASSWORD", PASSWORD)
    monkeypatch.setenv("DORMOUSE_PAGE_USER", "zoe")
    with ServerProcess("ui.app", words) as page:
        url = page.wait()
        for path in (
            "/",
            "/gradio_api/info",
            "/pages/0123456789abcdef.jpg",
            "/originals/0123456789abcdef",
            "/exports/x.zip",
            "/status",
            "/healthz",
        ):
            assert requests.get(url + path, timeout=30).status_code == 401
        assert requests.get(url, auth=("zoe", "wrong password"), timeout=30).status_code == 401
        answer = requests.get(url, auth=("zoe", PASSWORD), timeout=30)
        assert answer.status_code == 200 and "dormouse" not in answer.cookies
        client = Client(url, verbose=False, headers={"Authorization": requests.auth._basic_auth_str("zoe", PASSWORD)})
        assert client.predict("house", api_name="/new_collection")["name"] == "house"
        client.close()
