"""Servers on Modal as the page sees them. Modal's counts and addresses are doubles here; the worker behind is real.
`tests/modal` has the same against the real client."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest

from bench.coldstart.modal_target import explain_not_deployed
from serving.client import Answer
from serving.cloud.credentials import Keys
from serving.cloud.modal_account import AccountError, NotFound
from serving.errors import BadValueError, NotReadyError, UnauthorizedError
from serving.library.catalogue import FingerprintError
from serving.library.library import Library
from tests.support.libraries import add, at, new
from tests.support.scripted_replies import ANSWER, PROOF, answering
from tests.support.servers import ScriptedWorker
from ui.components import header, status_pill
from ui.servers import modal_target
from ui.servers.modal_feed import ContainerCounts
from ui.servers.modal_target import ModalTarget, parse_app_name
from ui.servers.state import EngineState, UnknownState
from ui.servers.target import Targets, split_name_and_url

APP = "bigemma3-hf-serve"


@dataclass
class Counted:
    """A double of the client's handle of a web function: what Modal would answer, and how often it was asked."""

    url: str = ""
    stats: ContainerCounts | Exception = field(default_factory=lambda: ContainerCounts(0, 0, 0))
    version: int = 1
    looks: int = 0
    lookups: int = 0

    def get_web_url(self) -> str:
        return self.url

    def get_current_stats(self) -> Any:
        self.looks += 1
        if isinstance(self.stats, Exception):
            raise self.stats
        return SimpleNamespace(
            backlog=self.stats.backlog, num_total_runners=self.stats.runners, num_running_inputs=self.stats.running
        )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    found = Counted()

    def function(app: str) -> Counted:
        found.lookups += 1
        if not found.url:
            raise NotFound(explain_not_deployed(app))
        return found

    monkeypatch.setattr(modal_target, "look_up_function", function)
    monkeypatch.setattr(modal_target, "ask_modal", lambda question, missing="": question())
    monkeypatch.setattr(
        modal_target.modal_account, "look_up_app", lambda name, missing="": SimpleNamespace(version=found.version)
    )
    return found


@pytest.fixture
def target(counted: Counted, tmp_path: Path) -> Iterator[ModalTarget]:
    found = ModalTarget("HuggingFace", APP, Keys(), tmp_path)
    yield found
    found.feed.close()


def until(condition: Any, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited for too long"
        time.sleep(0.01)


def facts(target: ModalTarget) -> EngineState:
    found = target.feed.state
    assert isinstance(found, EngineState), found
    return found


def test_nothing_is_asked_before_it_is_needed(target: ModalTarget, counted: Counted, scripted: ScriptedWorker) -> None:
    counted.url = scripted.url
    assert (target.name, target.title, target.is_local, target.known_info) == (
        "HuggingFace",
        "HuggingFace",
        False,
        None,
    )
    with pytest.raises(NotReadyError, match="would start a container"):
        target.fetch_info()
    assert counted.lookups == counted.looks == 0 and scripted.worker.boot.requests == 0
    target.client.embed_queries(["a"])
    until(lambda: target.known_info is not None)
    assert target.fetch_info().fingerprint == "scripted-1"


def test_app_that_is_not_deployed_names_the_command(target: ModalTarget) -> None:
    with pytest.raises(NotReadyError, match="run `modal deploy serving/serve_hf_snapshot"):
        target.client.embed_queries(["a"])
    target.feed.start()
    target.feed._on_viewer()
    until(lambda: "modal deploy" in str(target.feed.state))
    assert isinstance(target.feed.state, UnknownState)


def test_app_that_was_stopped_and_deployed_again_is_found_again(target: ModalTarget, counted: Counted) -> None:
    with answering((404, {}, b"modal-http: app for invoked web endpoint is stopped")) as (url, _):
        counted.url = url
        with pytest.raises(NotReadyError, match="not deployed"):
            target.client.embed_queries(["a"])
    with answering((200, PROOF, ANSWER)) as (url, _):
        counted.url = url
        assert target.client.embed_queries(["a"]).model == "m"


def test_keys_go_along_and_a_missing_token_is_told(counted: Counted, tmp_path: Path) -> None:
    with answering((401, {}, b"modal-http: missing credentials")) as (url, _):
        counted.url = url
        with pytest.raises(UnauthorizedError, match="DORMOUSE_MODAL_KEY"):
            ModalTarget("a", APP, Keys(), tmp_path).client.embed_queries(["a"])
        target = ModalTarget("b", APP, Keys(), tmp_path)
        target.use_keys(Keys("api", "admin", {"Modal-Key": "wk", "Modal-Secret": "ws"}))
        assert (target.client.key, target.client.headers["Modal-Key"]) == ("api", "wk")
        with pytest.raises(UnauthorizedError, match="HTTP 401"):
            target.client.embed_queries(["a"])


def test_what_a_server_said_is_remembered(counted: Counted, scripted: ScriptedWorker, tmp_path: Path) -> None:
    counted.url = scripted.url
    first = ModalTarget("HF", APP, Keys(), tmp_path)
    first.client.embed_queries(["a"])
    until(lambda: first.known_info is not None)
    again = ModalTarget("HF", APP, Keys(), tmp_path)
    assert again.fetch_info() == first.fetch_info()
    found = orjson.loads((tmp_path / f"worker-{APP}.json").read_bytes())
    assert found["version"] == 1 and found["starts"][0]["kind"] == "plain"
    (tmp_path / f"worker-{APP}.json").write_text("{half")
    assert ModalTarget("HF", APP, Keys(), tmp_path).known_info is None


def test_mismatch_is_told_before_anything_is_woken(
    target: ModalTarget, counted: Counted, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    library = Library(tmp_path / "library")
    add(library, new(), fingerprint="another-1")
    counted.url = scripted.url
    target.check_fingerprint(library, at(library))  # nothing is known of the server: it has to answer first
    assert not (tmp_path / f"worker-{APP}.json").exists(), "and there is nothing to ask Modal for, or to write"
    target.client.embed_queries(["a"])
    until(lambda: target.known_info is not None)
    asked = scripted.worker.boot.requests
    with pytest.raises(FingerprintError, match="made with another embedder"):
        target.check_fingerprint(library, at(library))
    assert scripted.worker.boot.requests == asked
    counted.version = 2  # deployed again: it may be another model now
    target.check_fingerprint(library, at(library))
    assert target.known_info is None
    library.close()


def test_start_is_told_phase_by_phase(target: ModalTarget, counted: Counted, scripted: ScriptedWorker) -> None:
    counted.url = scripted.url
    counted.stats = ContainerCounts(1, 0, 0)
    target.feed.start()
    scripted.embedder.gate.clear()
    asking = threading.Thread(target=target.client.embed_queries, args=(["a"],))
    asking.start()
    until(lambda: isinstance(target.feed.state, EngineState) and facts(target).start is not None)
    going = facts(target).start
    assert going is not None and going.phase == "queue" and facts(target).shown_state == "starting"
    counted.stats = ContainerCounts(1, 1, 0)
    until(lambda: (start := facts(target).start) is not None and start.phase == "container")
    assert "start a container" in status_pill.render_parts(target.feed.state)["words"]
    counted.stats = ContainerCounts(0, 1, 1)
    until(lambda: (start := facts(target).start) is not None and start.phase == "answer")
    start = facts(target).start
    assert start is not None and set(start.phases) == {"queue", "container"} and start.elapsed_ms > 1000
    scripted.embedder.gate.set()
    asking.join()
    until(lambda: facts(target).shown_state == "serving")
    last = facts(target).last_start
    assert last is not None and last.kind == "plain" and last.first_answer_ms is not None
    assert last.phases["platform"] >= 0 and last.first_answer_ms > 1000
    assert "Modal stores it" in status_pill.render_panel(facts(target))


def test_warm_answer_is_no_start(target: ModalTarget, counted: Counted, scripted: ScriptedWorker) -> None:
    counted.url = scripted.url
    counted.stats = ContainerCounts(0, 1, 1)
    target.feed.start()
    scripted.embedder.gate.clear()
    asking = threading.Thread(target=target.client.embed_queries, args=(["a"],))
    asking.start()
    until(lambda: isinstance(target.feed.state, EngineState))
    assert facts(target).start is None and facts(target).in_flight == 1 and facts(target).shown_state == "serving"
    scripted.embedder.gate.set()
    asking.join()


def test_nobody_is_asked_while_nobody_looks(target: ModalTarget, counted: Counted, scripted: ScriptedWorker) -> None:
    counted.url = scripted.url
    target.feed.start()
    time.sleep(0.3)
    assert counted.looks == 0

    async def look() -> None:
        async for news in target.feed.follow():
            if isinstance(news, EngineState):
                assert news.state == "zero"
                return

    asyncio.run(look())
    assert counted.looks == 1 and scripted.worker.boot.requests == 0
    asyncio.run(look())  # a second tab so soon is told what is known
    assert counted.looks == 1


def test_fault_of_the_counts_ends_nothing(target: ModalTarget, counted: Counted, scripted: ScriptedWorker) -> None:
    counted.url = scripted.url
    counted.stats = AccountError("Modal cannot be reached")
    target.feed.start()
    target.feed._on_viewer()
    until(lambda: "cannot be reached" in str(target.feed.state))
    counted.stats = RuntimeError("odd")
    target.feed._wake.set()  # type: ignore[attr-defined]
    until(lambda: "RuntimeError: odd" in str(target.feed.state))
    counted.stats = ContainerCounts(0, 1, 0)
    target.feed._wake.set()  # type: ignore[attr-defined]
    until(lambda: isinstance(target.feed.state, EngineState) and facts(target).shown_state == "serving")


def test_phases_of_a_start_come_in_their_order() -> None:
    told = {"probe": 20.0, "restore": 300.0, "wake": 100.0, "queue": 1.0, "decode": 2.0, "embed": 30.0}
    answer = Answer(np.zeros((1, 2), np.float32), [], "m", "f", 1.0, 0, "b", "restored", 1, told)
    found = modal_target.as_start_record(answer)
    assert list(found.phases) == ["platform", "restore", "wake", "probe"]
    assert (found.phases["platform"], found.ready_ms, found.first_answer_ms) == (547.0, 967.0, 1000.0)
    found = modal_target.as_start_record(
        replace(answer, seconds=0.04)
    )  # of a container that was up before it was asked
    assert (found.phases["platform"], found.ready_ms, found.first_answer_ms) == (0.0, 420.0, None)


def test_model_that_is_not_known_yet_is_no_fault(target: ModalTarget) -> None:
    service: Any = SimpleNamespace(targets=Targets([target]))
    found = header.describe_model(service, target)
    assert "model not known yet" in found and "chip bad" not in found


def test_addresses() -> None:
    assert (
        split_name_and_url("HF=modal:my-app") == ("HF", "modal:my-app") and parse_app_name("modal:my-app") == "my-app"
    )
    assert parse_app_name("https://modal:my-app") is None
    for bad in ("modal:", "modal:a b", "modal:" + "x" * 65):
        with pytest.raises(BadValueError, match="no name of a Modal app"):
            parse_app_name(bad)
