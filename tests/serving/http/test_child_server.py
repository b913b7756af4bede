from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from serving.http import child_server
from serving.http.child_server import ProcessFailed, ServerProcess

MODULE = "tests.support.child_programs"


def test_it_answers_until_its_parent_lets_it_go() -> None:
    with ServerProcess(MODULE) as child:
        assert child.wait(60) == "http://127.0.0.1:1" and child.running and not child.ended.is_set()
    assert not child.running and child.ended.is_set()
    assert child.stop() == 3, "its own code, also when asked again"


def test_one_that_ends_is_told_with_its_last_lines() -> None:
    with ServerProcess(MODULE, ["--lines", "30", "--code", "7"]) as child:
        with pytest.raises(ProcessFailed, match="ended with exit code 7") as failed:
            child.wait(60)
        assert "line 29" in str(failed.value) and "line 9\n" not in str(failed.value)
        assert child.tail.count("\n") == 20


def test_one_that_never_answers_is_told_in_time() -> None:
    with ServerProcess(MODULE, ["--silent"]) as child, pytest.raises(ProcessFailed, match=r"within 0\.2 s"):
        child.wait(0.2)


def test_one_that_does_not_stop_is_killed() -> None:
    child = ServerProcess(MODULE, ["--stays"])
    child.wait(60)
    began = time.monotonic()
    assert child.stop(grace=0.2) == -9 and time.monotonic() - began < 5


def test_one_that_cannot_be_killed_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a call to a disk that does not answer: the kill has no effect yet."""
    monkeypatch.setattr(child_server, "KILL_S", 0.2)
    child = ServerProcess(MODULE, ["--stays"])
    child.wait(60)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "kill", lambda _: None)
        with pytest.raises(ProcessFailed, match=f"process {child.pid}. was killed and has not ended"):
            child.stop(grace=0.1)
    child.kill()
    assert child.stop() == -9


def test_its_lines_reach_standard_error_and_the_first_is_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with ServerProcess(MODULE, ["--lines", "3"]) as child:
        child.wait(60)
    assert capfd.readouterr().err.splitlines() == ["line 0", "line 1", "line 2"]


def test_its_log_can_be_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with ServerProcess(MODULE, ["--lines", "3"], shows_log=False) as child:
        child.wait(60)
    assert "line 2" in child.tail and capfd.readouterr().err == ""


def test_its_environment_is_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def popen(command: list[str], **options: Any) -> Any:
        given.update(options, command=command)
        raise InterruptedError

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(InterruptedError):
        ServerProcess("a.module", ["--x"], {"B": "2"}, {"A": "1", "B": "1"})
    assert given["env"] == {"A": "1", "B": "2"} and given["start_new_session"]
    assert given["command"] == [sys.executable, "-m", "a.module", "--port", "0", "--until-stdin-closes", "--x"]
