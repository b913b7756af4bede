"""Where a browser is found, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.speed import browser
from bench.speed.browser import BrowserFailed, find_browser, launch_browser


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Only this folder is on PATH, and no application is installed."""
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "APPS", (str(tmp_path / "Some.app"),))
    return tmp_path


def install(file: Path) -> str:
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


def test_a_named_browser_comes_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(path / "chromium")
    monkeypatch.setenv("CHROMIUM", "/opt/mine")
    assert find_browser() == "/opt/mine"


def test_an_installed_one_is_found_by_its_names_in_their_order(path: Path) -> None:
    app = install(path / "Some.app")
    assert find_browser() == app
    chrome = install(path / "google-chrome")
    assert find_browser() == chrome
    assert install(path / "chromium") == find_browser()


def test_no_browser_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.speed.browser.find_browser", lambda: None)
    assert main(["page", "--pages", "10", "--out", str(tmp_path / "page.json")]) == 1
    assert "apt install chromium" in capsys.readouterr().err


def test_a_browser_that_does_not_start_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", str(path / "nowhere"))
    with pytest.raises(BrowserFailed, match="the browser: "), launch_browser():
        pass
