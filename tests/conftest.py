from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime  # noqa: F401 - before usearch, which would make its import end the process
import pytest

from serving.documents.parser_pool import Parse, ParserPool
from serving.http.child_server import ServerProcess
from serving.settings import Settings
from tests.support.scripted import Scripted
from tests.support.servers import ScriptedWorker, make_settings, running

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer
    from tests.support.stores import LibraryOpener

for name in [name for name in os.environ if name.startswith("DORMOUSE_")]:
    del os.environ[name]  # settings of whoever runs the tests are not part of them


PROCESSES = ("EngineProcess", "ServerProcess")
PROCESS_FIXTURES = {"builtin_process", "builtin_url", "page_url"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs. The marker `soak` stands in the test modules."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "browser" in fixtures:
            item.add_marker(pytest.mark.browser)
        if Path(__file__).parent / "modal" in item.path.parents:
            item.add_marker(pytest.mark.modal)
        module = item.getparent(pytest.Module)
        if fixtures & PROCESS_FIXTURES or any(hasattr(module and module.obj, name) for name in PROCESSES):
            item.add_marker(pytest.mark.process)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def parse(settings: Settings) -> Iterator[Parse]:
    with ParserPool(settings) as parsers:
        yield parsers.run


@pytest.fixture
def scripted(settings: Settings) -> Iterator[ScriptedWorker]:
    embedder = Scripted()
    with running(embedder, settings) as (url, worker):
        yield ScriptedWorker(url, worker, embedder)
        embedder.gate.set()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL with pgvector, for all tests of this process."""
    from tests.support.postgres import PostgresServer  # not every venv of the tests has its client

    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[LibraryOpener]:
    """Opens libraries, in one turn in their folders and in another on a server."""
    from tests.support.stores import LibraryOpener

    opener = LibraryOpener(request.getfixturevalue("postgres") if request.param == "postgres" else None)
    yield opener
    opener.close()


@pytest.fixture(scope="session")
def builtin_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The real worker: `python -m serving` with the built-in embedder, in a process of its own."""
    with ServerProcess("serving", ["--data", str(tmp_path_factory.mktemp("worker"))]) as worker:
        worker.wait()
        yield worker


@pytest.fixture(scope="session")
def builtin_url(builtin_process: ServerProcess) -> str:
    return builtin_process.wait()


@pytest.fixture(scope="session")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real page: `python -m ui.app`, which starts its own worker."""
    with ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path_factory.mktemp("page"))]) as page:
        yield page.wait()
