from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.http.child_server import ServerProcess
from tests.support.commands import Dormouse
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running


@pytest.fixture(scope="session")
def embedder_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(Scripted(), make_settings(tmp_path_factory.mktemp("embedder"))) as (url, _):
        yield url


@pytest.fixture(scope="session")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="session")
def running_page(embedder_url: str, page_folder: Path) -> Iterator[str]:
    """The real page on `page_folder`, whose pages are embedded by the test double."""
    arguments = ["--no-browser", "--data", str(page_folder), "--worker", embedder_url]
    with ServerProcess("ui.app", arguments) as page:
        yield page.wait()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def dormouse(capsys: pytest.CaptureFixture[str], data: Path, embedder_url: str) -> Dormouse:
    """The command on a data folder that no page holds."""
    return Dormouse(capsys, ("--data", str(data), "--worker", embedder_url))


@pytest.fixture(params=["folder", "page"])
def anywhere(request: pytest.FixtureRequest, dormouse: Dormouse) -> Dormouse:
    """The command on a data folder, and on a running page."""
    if request.param == "page":
        dormouse.options = ("--page", request.getfixturevalue("running_page"))
    return dormouse


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A collection's name that no other test has: they share the page."""
    return str(request.node.name)[-80:]
