"""The `dormouse` command: which part it hands over to."""

from __future__ import annotations

import sys

import pytest

from ui.__main__ import main


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dormouse", *words])
    return main()


def test_its_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    commands = ("page", "engine", "bench", "add", "watch", "search", "list", "export", "import", "delete")
    commands += ("deploy", "status", "destroy")
    told = capsys.readouterr().out
    assert all(f"\n  {command}" in told for command in commands)
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, command, "--help")
        assert ended.value.code == 0 and "usage:" in capsys.readouterr().out


def test_what_is_no_command_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "depoly") == 2
    assert "usage: dormouse [COMMAND] [options]" in capsys.readouterr().err
