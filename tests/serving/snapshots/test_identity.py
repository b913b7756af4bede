"""What a snapshot belongs to, and what its worker is told only when it comes back."""

from __future__ import annotations

import ast
import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from serving.embedders.base import find_embedder_class
from serving.errors import BusyError
from serving.http.schema import Query
from serving.settings import LOADED_WITH, Settings
from serving.snapshots.base import Launch, WorkerSpec
from serving.snapshots.identity import find_sources, make_identity
from serving.worker.server import prepare_server
from serving.worker.worker import Worker
from tests.support import criu
from tests.support.engines import EngineProcess, kind
from tests.support.scripted import Scripted
from tests.support.scripted_engine import NAME

ROOT = Path(__file__).parents[3]


def changed(name: str) -> Any:
    """Another value than that setting's own default."""
    before = getattr(Settings(), name)
    if choices := get_args(Settings.model_fields[name].annotation):
        return next(choice for choice in choices if choice != before)
    if isinstance(before, bool):
        return not before
    if isinstance(before, SecretStr):
        return "another"
    return type(before)("another") if isinstance(before, str | Path) else 1 - before if before in (0, 1) else before + 1


def belongs(settings: Settings) -> dict[str, str]:
    return dict(make_identity(WorkerSpec(NAME, "scripted-1", settings), "serving.snapshots.criu.backend"))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_part_of_the_identity_or_of_the_launch(name: str, tmp_path: Path) -> None:
    before, after = Settings(), Settings(**{name: changed(name)})
    assert getattr(before, name) != getattr(after, name)
    assert (belongs(before) != belongs(after)) == (name in LOADED_WITH)
    if name not in LOADED_WITH:
        message = Launch(tmp_path / "socket", "restored", after.known_at_launch()).as_message()
        worker = Worker(Scripted(), Settings(**before.known_at_load()))
        worker.start_boot(Settings(**json.loads(json.dumps(message))["settings"]), "restored")
        kept = before if name == "store" else after  # the address of the collections is nothing for a worker
        assert getattr(worker.settings, name) == getattr(kept, name)


def test_no_key_is_known_before_the_launch() -> None:
    assert not [name for name in LOADED_WITH if isinstance(getattr(Settings(), name), SecretStr)]


class Recording(Settings):
    """Which settings were read."""

    def __getattribute__(self, name: str) -> Any:
        if name in Settings.model_fields:
            READ.add(name)
        return super().__getattribute__(name)


READ: set[str] = set()


@pytest.mark.parametrize("name", ["builtin", NAME])
def test_nothing_else_is_read_before_the_launch(name: str, tmp_path: Path) -> None:
    settings = Recording(data=tmp_path)
    READ.clear()
    embedder = find_embedder_class(name)(settings)
    embedder.load()
    embedder.warm_up()
    prepare_server(embedder, settings)
    assert "data" in READ and READ <= LOADED_WITH


def test_no_embedder_reads_another_setting() -> None:
    """Those on a GPU as well, which cannot be loaded everywhere."""
    for path in (ROOT / "serving" / "embedders").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2] == "settings":
                assert node.attr in LOADED_WITH, f"{path.name}:{node.lineno} reads {node.attr}"


def test_the_queues_of_a_restored_worker_are_those_of_its_launch() -> None:
    async def main() -> None:
        worker = Worker(Scripted(), Settings())
        worker.start_boot(Settings(page_queue=2, query_queue=3), "restored")
        worker.queries.check_room(3)
        for lane, count in ((worker.pages, 3), (worker.queries, 4)):
            with pytest.raises(BusyError):
                lane.check_room(count)
        await worker.open()
        with pytest.raises(BusyError, match="at most 3"):
            await worker.embed([Query(str(number)) for number in range(4)])
        await worker.close()

    asyncio.run(main())


@pytest.mark.soak
@pytest.mark.parametrize("snapshot", ["criu", "fork"])
def test_a_changed_queue_is_in_force_after_a_restore(tmp_path: Path, snapshot: str) -> None:
    if snapshot == "criu":
        criu.need()
    with EngineProcess(tmp_path, snapshot) as engine:
        assert kind(engine.ask()) == "created"
    with EngineProcess(tmp_path, snapshot, DORMOUSE_QUERY_QUEUE="1", DORMOUSE_PAGE_QUEUE="1") as engine:
        assert kind(engine.ask()) == ("restored" if snapshot == "criu" else "created")
        answer = engine.embed({"texts": ["a", "b"]})
        assert answer.status_code == 429, answer.text
        assert engine.embed({"pages": [{"lines": ["a"]}, {"lines": ["b"]}]}).status_code == 429


@pytest.mark.soak
@pytest.mark.parametrize("name", ["DORMOUSE_HF_EAGER", "OMP_NUM_THREADS"])
def test_what_a_worker_was_loaded_with_makes_another_snapshot(tmp_path: Path, name: str) -> None:
    criu.need()
    with EngineProcess(tmp_path, "criu") as engine:
        assert kind(engine.ask()) == "created"
    with EngineProcess(tmp_path, "criu", **{name: "1"}) as engine:
        assert kind(engine.ask()) == "created"
    with EngineProcess(tmp_path, "criu") as engine:
        assert kind(engine.ask()) == "restored"


@pytest.mark.soak
def test_a_snapshot_belongs_to_the_sources_that_its_worker_loads(tmp_path: Path) -> None:
    """And to those that made it. An edit of the library keeps it, one of the batcher does not."""
    criu.need()
    for package in ("serving", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    copied = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}  # not the sources in the working directory
    for edited, expected in (
        (None, "created"), ("library/library", "restored"), ("worker/batcher", "created"),
        ("snapshots/plain", "created"), ("embedders/builtin/embedder", "restored"),
    ):  # fmt: skip
        if edited is not None:
            with (tmp_path / "serving" / f"{edited}.py").open("a") as stream:
                stream.write("\n# edited\n")
        with EngineProcess(tmp_path / "data", "criu", **copied) as engine:
            assert kind(engine.ask()) == expected, edited


@pytest.mark.parametrize("name", ["builtin", NAME])
def test_all_that_a_worker_has_loaded_is_among_its_sources(name: str, tmp_path: Path) -> None:
    code = (
        "import os, sys; from serving.worker.process import WorkerRuntime\n"
        "status = os.open(os.devnull, os.O_WRONLY)\n"
        "WorkerRuntime.prepare(sys.argv[1], {'data': sys.argv[2]}, status, warm_up=True, sleeps=False)\n"
        "print(*[module.__file__ for module in list(sys.modules.values()) if getattr(module, '__file__', None)])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, name, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {Path(file) for file in found.stdout.split()}
    ours = {file for file in loaded if file.parent in (ROOT / "serving", *(ROOT / "serving").rglob("*/"))}
    assert ROOT / "serving/worker/batcher.py" in ours and ours <= set(find_sources(name, "serving.snapshots.fork"))


def test_what_only_the_engine_and_the_page_load_is_not_among_a_workers_sources() -> None:
    found = {str(path.relative_to(ROOT)) for path in find_sources("bigemma3", "serving.snapshots.criu.backend")}
    assert {
        "serving/embedders/bigemma3/cuda_graphs.py",
        "serving/embedders/bigemma3/fused_norm.py",
        "serving/snapshots/criu/namespace_init.py",
    } <= found
    assert not found & {
        "serving/library/library.py",
        "serving/engine/engine.py",
        "serving/client.py",
        "serving/embedders/builtin/embedder.py",
    }


def test_modules_of_an_embedder_that_is_not_ours_are_among_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_embedder" / "parts").mkdir(parents=True)  # packages without an __init__, and relative imports
    for name, text in (
        ("model", "def load():\n    from .parts import late, of\nfrom . import early, nothing\nimport numpy"),
        ("early", ""), ("parts/late", "from ..other import Thing"), ("parts/of", ""), ("other", ""), ("unused", ""),
    ):  # fmt: skip
        (tmp_path / "own_embedder" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = find_sources("own_embedder.model:Class", "serving.snapshots.criu.backend")
    theirs = {file.stem for file in found if file.is_relative_to(tmp_path)}
    assert theirs == {"model", "early", "late", "of", "other"} and ROOT / "serving/worker/worker.py" in found
