"""Scaling down on Modal: the order of its ways, and what is said where none works. The double: tests/modal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.coldstart import modal_target
from bench.coldstart.modal_target import APPS, FILES, ModalServer, explain_not_deployed, raise_as_target_errors
from bench.coldstart.target import TargetError
from bench.results.record import Say
from serving.cloud.modal_account import AccountError
from tests.support.embedding_servers import answer, server
from tests.support.repository import ROOT


class Server(ModalServer):
    """A server whose containers are counted from a list, and whose ways down are noted."""

    def __init__(self, counts: list[int], works: str = "", settings: Any = None) -> None:
        self.name, self.app = "hf", "some-app"
        self.counts, self.works = counts, works
        self.asked: list[str] = []
        self._latest, self._restores, self._settle_s, self._admin = "", False, 0.02, ""
        self._function = SimpleNamespace(autoscaler=SimpleNamespace(settings=settings))

    def count_containers(self) -> int:
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]

    def _ask_worker(self, _: Say) -> bool:
        return self.note("worker")

    def _stop_containers(self, _: Say) -> bool:
        return self.note("containers")

    def _shorten_window(self, _: Say) -> bool:
        return self.note("window")

    def note(self, way: str) -> bool:
        self.asked.append(way)
        return way == self.works


@pytest.fixture
def _no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modal_target, "ask_modal", lambda ask, *_: ask())


def test_at_zero_nothing_is_asked() -> None:
    down = Server([0])
    down.scale_down(print)
    assert not down.asked


@pytest.mark.parametrize(
    ("works", "asked"),
    [
        ("worker", ["worker"]),
        ("containers", ["worker", "containers"]),
        ("window", ["worker", "containers", "window"]),
    ],
)
def test_the_mildest_way_that_works_is_taken(works: str, asked: list[str]) -> None:
    up = Server([1], works)
    up.scale_down(print)
    assert up.asked == asked


@pytest.mark.usefixtures("_no_client")
def test_where_none_works_the_reason_is_said() -> None:
    kept = Server([1], settings=lambda: SimpleNamespace(min_containers=2))
    with pytest.raises(TargetError, match="some-app never comes to zero: it is deployed with min_containers=2"):
        kept.scale_down(print)
    used = Server([1], settings=lambda: SimpleNamespace(min_containers=0))
    with pytest.raises(TargetError, match="someone else may be using it"):
        used.scale_down(print)


def test_a_snapshot_gets_its_time_to_be_written_once() -> None:
    said: list[str] = []
    down = Server([0])
    down.note_start("created")
    down.scale_down(said.append)
    assert said and "leaving it the time to write its snapshot" in said[0]
    said.clear()
    down.scale_down(said.append)
    down.note_start("restored")
    down.scale_down(said.append)
    assert not said and down._restores


def test_it_is_gone_once_no_container_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modal_target, "POLL_S", 0.01)
    assert Server([1, 1, 0])._wait_until_gone(print)
    monkeypatch.setattr(modal_target, "LEAVE_S", 0.03)
    assert not Server([1])._wait_until_gone(print)


@pytest.mark.parametrize(("status", "reply"), [(401, "answered 401"), (307, "answered 307")])
def test_a_worker_that_refuses_leaves_it_to_modal(status: int, reply: str) -> None:
    said: list[str] = []
    refusing = Server([1])
    refusing._admin, refusing.headers = "key", {}
    with server(answer(status, Location="/elsewhere")) as (refusing.url, bodies):
        # By the real method, which the double above replaces.
        assert not ModalServer._ask_worker(refusing, said.append)
    assert len(bodies) == 1 and said[-1] == f"its worker {reply}: having its containers stopped by Modal instead"


def test_without_an_admin_key_the_worker_is_not_asked() -> None:
    assert not ModalServer._ask_worker(Server([1]), print)
    assert not ModalServer._shorten_window(Server([1]), print), "no restore was seen"


@pytest.mark.usefixtures("_no_client")
def test_the_window_is_put_back_however_the_wait_ends() -> None:
    windows: list[int] = []
    autoscaler = SimpleNamespace(
        settings=lambda: SimpleNamespace(scaledown_window=90),
        update=lambda scaledown_window: windows.append(scaledown_window),
    )

    class Interrupted(Server):
        def _wait_until_gone(self, _: Say) -> bool:
            raise KeyboardInterrupt

    up = Interrupted([1])
    up._function, up._restores = SimpleNamespace(autoscaler=autoscaler), True
    with pytest.raises(KeyboardInterrupt):
        ModalServer._shorten_window(up, print)
    assert windows == [modal_target.SHORTEST_S, 90]


def test_what_is_not_deployed_is_said_with_what_to_run() -> None:
    for deployment, app in APPS.items():
        assert explain_not_deployed(app).startswith(f"{app} is not deployed: run `modal deploy {FILES[deployment]}`")
    assert explain_not_deployed("x") == "x is not deployed, or no server of ours: `modal app list` shows what is"


@pytest.mark.parametrize("deployment", APPS)
def test_each_app_has_the_name_in_its_file(deployment: str) -> None:
    assert f'"{APPS[deployment]}"' in (ROOT / FILES[deployment]).read_text(encoding="utf-8")


def test_what_the_account_says_is_the_target_s_failure() -> None:
    with pytest.raises(TargetError, match="no token"), raise_as_target_errors():
        raise AccountError("no token")
