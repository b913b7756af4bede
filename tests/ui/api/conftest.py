from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client

from serving.http.child_server import ServerProcess
from serving.settings import Settings
from tests.support.servers import ScriptedWorker
from tests.support.services import open_service
from tests.support.stores import LibraryOpener
from ui.core.service import Service


@pytest.fixture(scope="session", params=["in its folder", "on a store"])
def page_url(request: pytest.FixtureRequest, page_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real page, in one turn on a library in its folder, in another on a server."""
    if request.param == "in its folder":
        yield page_url
        return
    postgres = request.getfixturevalue("postgres")
    store = {"DORMOUSE_STORE": postgres.address(postgres.create_schema())}
    arguments = ["--no-browser", "--data", str(tmp_path_factory.mktemp("page"))]
    with ServerProcess("ui.app", arguments, store) as page:
        yield page.wait()


@pytest.fixture(scope="module")
def client(page_url: str) -> Iterator[Client]:
    client = Client(page_url, verbose=False)
    yield client
    client.close()


@pytest.fixture
def service(scripted: ScriptedWorker, settings: Settings, tmp_path: Path, store: LibraryOpener) -> Iterator[Service]:
    with open_service(store.open(tmp_path / "library"), scripted, settings) as service:
        yield service
