"""The engine that a page starts: its key, its end, and that it is started again when it ends unasked."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import requests
from gradio_client import Client, handle_file

from serving.http.child_server import ProcessFailed, ServerProcess
from serving.settings import Settings
from tests.support.repository import SAMPLES
from tests.support.waiting import until
from ui.servers.engine_process import LocalEngine


def test_an_engine_answers_to_its_page_alone_and_ends_with_it(tmp_path: Path) -> None:
    engine = LocalEngine(Settings(data=tmp_path, start_ahead=False), "plain", 30)
    try:
        url, body = engine.client.url, {"input": "words"}
        assert engine.client.fetch_info().name
        assert requests.post(f"{url}/embed", json=body, timeout=10).status_code == 401, "another program has no key"
        status = requests.get(f"{url}/engine", headers={"X-Admin-Key": engine.admin_key}, timeout=10).json()
        assert (status["state"], status["backend"], status["scaledown_window"]) == ("zero", "plain", 30)
        assert engine.admin_key == (tmp_path / "admin.key").read_text().strip()
    finally:
        engine.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_a_new_engine_has_a_worker_before_anybody_asks(tmp_path: Path) -> None:
    engine = LocalEngine(Settings(data=tmp_path), "plain", 30)
    try:
        admin = {"X-Admin-Key": engine.admin_key}
        until(
            lambda: requests.get(f"{engine.client.url}/engine", headers=admin, timeout=10).json()["state"] == "serving",
            60,
        )
    finally:
        engine.stop()


def test_an_engine_that_does_not_come_up_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProcessFailed):
        LocalEngine(Settings(data=tmp_path / "file"), "plain")


def find_engine(page: ServerProcess) -> psutil.Process:
    """The page's other children read files."""
    (engine,) = (
        one for one in psutil.Process(page.pid).children() if "serving.documents.parser_process" not in one.cmdline()
    )
    return engine


@pytest.mark.soak
def test_killed_worker_and_killed_engine_are_started_again_and_a_search_waits(tmp_path: Path) -> None:
    with ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path)]) as page:
        client = Client(page.wait(), verbose=False)
        receipt = handle_file(SAMPLES / "receipt-corner-larder.jpg")
        assert len(client.predict([receipt], "c", api_name="/add_pages")["added"]) == 1
        engine = find_engine(page)
        worker = next(one for one in engine.children(recursive=True) if not one.children())
        worker.kill()
        assert client.predict("what did I buy?", None, "c", 3, None, api_name="/search")["hits"]
        family = engine.children(recursive=True)
        engine.kill()
        assert client.predict("what did I buy?", None, "c", 3, None, api_name="/search")["hits"]
        again = find_engine(page)
        assert again.pid != engine.pid
        assert not psutil.wait_procs(family, timeout=10)[1], "the killed engine's workers are gone"
        client.close()


@pytest.mark.soak
def test_an_engine_that_comes_up_and_dies_is_started_again_after_a_growing_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = LocalEngine(Settings(data=tmp_path), "plain")
    try:
        for number, pause in enumerate(("0.5", "2"), 1):
            asked = engine.client.fetch_info()
            assert asked.name
            before = engine.client.url
            engine._process.kill()
            until(lambda before=before: engine.client.url != before, 60)  # type: ignore[misc]
            told = [record.getMessage() for record in caplog.records if record.name == "ui.servers.engine_process"]
            assert len(told) == number and told[-1].endswith(f"started again in {pause} s")
    finally:
        engine.stop()
