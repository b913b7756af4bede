"""The command line of the bench: which commands there are, and how each way of ending is told."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from bench.__main__ import COMMANDS, main
from bench.coldstart import report
from serving.errors import BadValueError


def test_each_command_is_in_the_help_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    words = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        assert name in words and " ".join(command.ABOUT.split()) in words
    assert "--num-warmup" in words, "cold starts are measured without a command"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert " ".join(COMMANDS[name].ABOUT.split()) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("error", [BadValueError("it is\x1b[2J wrong"), ValueError("it is\x1b[2J wrong")])
def test_a_failure_is_a_sentence_that_cannot_steer_the_terminal(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(report, "main", fail)
    assert main(["report"]) == 1
    assert capsys.readouterr().err == "report failed: it is?[2J wrong\n"


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "main", interrupt)
    assert main(["report"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_bug_is_no_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(report, "main", crash)
    with pytest.raises(ZeroDivisionError):
        main(["report"])


def test_compare_goes_with_no_other_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--compare", "a", "b", "--num-warmup", "3", "--test-scaledown"])
    assert ended.value.code == 2
    assert "leave out --num-warmup, --test-scaledown" in capsys.readouterr().err


def test_commands_need_no_package_of_the_tests() -> None:
    """The tab Cold starts runs this in an installation without them; a bench that needs one says so when it runs."""
    absent = "import sys; sys.modules |= dict.fromkeys(['psutil', 'playwright', 'reportlab', 'pytest']); "
    told = "from bench.__main__ import main; main(['speed', '--help'])"
    found = subprocess.run([sys.executable, "-c", absent + told], capture_output=True, text=True)
    assert found.returncode == 0 and "--manual" in found.stdout, found.stderr
