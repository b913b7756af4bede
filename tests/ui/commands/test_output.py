"""What a command writes: JSON lines, text, errors in a line, a bar on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from serving.errors import ServingError
from serving.http.child_server import ProcessFailed
from tests.support.repository import ROOT
from ui.commands.output import Output, Stopped, make_printable, run_command
from ui.components.wording import format_count


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        (ServingError("it failed\x1b[31m"), 1, "it failed [31m"),
        (ProcessFailed("serving ended:\n  a line\n  the last line\n"), 1, "serving ended: the last line"),
        (PermissionError(13, "Permission denied", "/a"), 1, "/a: Permission denied"),
        (ValueError("what"), 1, "what"),
        (Stopped("3 pages stay"), 130, "3 pages stay"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_failures_are_one_line(
    failure: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(output: Output) -> int:
        output.summary["added"] = 2
        raise failure

    assert run_command("add", work, as_json=True) == code
    found = capsys.readouterr()
    assert found.err == f"dormouse add: {told}\n"
    wanted = {"type": "summary", "command": "add", "exit_code": code, "added": 2, "error": told}
    assert json.loads(found.out) == wanted
    assert run_command("add", work, as_json=False) == code
    assert capsys.readouterr().out == ""


def test_text_changes_nothing_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).write("page", "a\x1b[31m\nb", file="x")
    assert capsys.readouterr().out == "a [31m b\n"
    assert make_printable("größer 中") == "größer 中"
    assert [format_count(number, "page") for number in (0, 1, 2_000)] == ["0 pages", "1 page", "2,000 pages"]


PROGRAM = """
from ui.commands.output import Output
output = Output(as_json=False)
with output.show_progress("adding [b]") as show:
    show(1, 3, "1/3 pages")
    output.write("page", "a result")
output.write_text("the end")
"""


def test_a_bar_is_drawn_on_a_terminal_only() -> None:
    """On standard error; results come after it, and without colours."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "TERM": "xterm-256color"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, timeout=30, cwd=ROOT, env=environment)
    os.close(follower)
    drawn = os.read(leader, 100_000).decode()
    os.close(leader)
    assert done.stdout == b"a result\nthe end\n"
    assert "adding [b]" in drawn and "1/3 pages" in drawn and "\x1b[" in drawn
    quiet = subprocess.run(command, capture_output=True, timeout=30, cwd=ROOT, env=environment, check=True)
    assert quiet.stdout == b"a result\nthe end\n" and quiet.stderr == b""


def test_a_reader_that_has_gone_is_no_failure() -> None:
    program = "from ui.commands.output import run_command\nimport sys\n"
    program += "def work(output):\n    for n in range(100000): output.write('n', f'{n} ' * 20)\n    return 0\n"
    program += "sys.exit(run_command('list', work, as_json=False))"
    piped = f'{sys.executable} -c "$PROGRAM" | head -n 1'
    found = subprocess.run(
        ["sh", "-c", piped],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        env={**os.environ, "PROGRAM": program},
    )
    assert found.stdout.startswith("0 0 0") and found.stderr == ""
