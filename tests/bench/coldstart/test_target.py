"""Targets: engines of ours, attached to by their key, and any other address, which is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.coldstart.target import (
    LocalEngine,
    PlainUrl,
    TargetError,
    attach_target,
    check_address,
    count_down,
    find_admin_key,
    start_engine,
)
from serving.http.child_server import ProcessFailed
from tests.support.embedding_servers import answer, ours, server
from tests.support.engines import EngineProcess
from tests.support.servers import make_settings


@pytest.fixture(scope="module")
def plain_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("plain"), "plain") as engine:
        engine.wait()
        yield engine


def test_a_plain_address_is_left_alone_while_it_scales_down() -> None:
    with server(ours()) as (url, bodies):
        heard: list[str] = []
        PlainUrl("t", url, "", 0.05).scale_down(heard.append)
        assert not bodies and heard == ["waiting for it to scale down, 0 s left"]


def test_an_engine_is_attached_to_by_the_key_of_its_folder(
    plain_engine: EngineProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DORMOUSE_DATA", str(plain_engine.data))
    found = attach_target("t", plain_engine.wait() + "/", "", 65)
    assert isinstance(found, LocalEngine) and found.backend == "plain"
    found.close()
    monkeypatch.setenv("DORMOUSE_DATA", str(tmp_path))
    assert isinstance(attach_target("t", plain_engine.wait(), "", 65), PlainUrl)


def test_who_does_not_answer_or_is_not_ours_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(answer()) as (url, _):
        with pytest.raises(TargetError, match="is not a Dormouse server: /engine answered 200"):
            LocalEngine("t", url, "", "key")
        monkeypatch.setenv("DORMOUSE_ADMIN_KEY", "key")
        assert isinstance(attach_target("t", url, "", 65), PlainUrl)
    with pytest.raises(TargetError, match="nothing answers at"):
        attach_target("t", url, "", 65)
    with pytest.raises(TargetError, match="is not an address"):
        attach_target("t", "localhost:8000", "", 65)


def test_an_engine_goes_to_zero_and_answers_from_there(plain_engine: EngineProcess) -> None:
    engine = LocalEngine("t", plain_engine.wait(), "", plain_engine.admin["X-Admin-Key"])
    said: list[str] = []
    engine.scale_down(said.append)
    assert said == ["scaling down"] and engine.read_status()["state"] == "zero"
    seconds, reply = engine.time_embed({"texts": ["total due"]})
    assert reply.ok and reply.headers["X-Boot-Requests"] == "1" and 0 < seconds < 60
    assert reply.elapsed.total_seconds() <= seconds and "plain" in engine.title
    engine.close()


def test_an_engine_that_does_not_come_up_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ProcessFailed, match="invalid choice"):
        start_engine("t", ["--snapshot", "docker"])
    assert not list(tmp_path.glob("dormouse-bench-*"))


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://a", "http://", "http://[::1", "http://a:0", "http://a:x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(TargetError, match="is not an address"):
        check_address(url)


def test_an_address_has_no_slash_at_its_end() -> None:
    assert check_address("https://a.example:8000//") == "https://a.example:8000"


def test_a_countdown_says_each_step_and_ends() -> None:
    said: list[str] = []
    count_down(0.02, said.append, "waiting")
    assert said and set(said) == {"waiting, 0 s left"}
    count_down(0.0, said.append, "not waiting")
    assert said[-1] != "not waiting, 0 s left"


def test_the_folder_s_key_is_sent_to_this_machine_only(tmp_path: Path) -> None:
    assert find_admin_key(make_settings(tmp_path), "http://127.0.0.1:8000") == ""
    (tmp_path / "admin.key").write_text("of the folder\n")
    assert find_admin_key(make_settings(tmp_path), "http://localhost:8000") == "of the folder"
    assert find_admin_key(make_settings(tmp_path), "https://elsewhere.example") == ""
    configured = make_settings(tmp_path, admin_key="configured")
    assert find_admin_key(configured, "https://elsewhere.example") == "configured"
    assert find_admin_key(configured, "http://[::1]:8000") == "configured"
