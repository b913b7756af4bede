"""What a command writes: results on standard output, as text or JSON lines; progress and errors on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from serving.errors import ServingError
from serving.http.child_server import ProcessFailed

DONE, FAILED, SKIPPED, INTERRUPTED = 0, 1, 3, 130
"""Exit codes; 2 is argparse's, for wrong options."""
ShowProgress = Callable[[int, int, str], None]
"""Called with what is done, of how much, and in words."""


class Stopped(Exception):
    """Ctrl-C. The message says what was done before it."""


class Output:
    """The results of one command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._waiting: list[str] | None = None
        """Lines that a progress bar would be drawn over."""
        self.summary: dict[str, object] = {}
        """Fields of the last JSON object."""

    def write(self, kind: str, text: str, **fields: object) -> None:
        """Write one result: `text` for a person, or `kind` and fields as a JSON object."""
        if self.as_json:
            write_line(orjson.dumps({"type": kind, **fields}).decode())
        elif self._waiting is not None:
            self._waiting.append(text)
        else:
            write_line(make_printable(text))

    def write_text(self, text: str) -> None:
        """Write a line for a person; as JSON, the summary has what it says."""
        if not self.as_json:
            self.write("", text)

    def write_summary(self, command: str, code: int, error: str) -> None:
        """Write the last JSON object."""
        if self.as_json:
            told = {"error": make_printable(error)} if error else {}
            self.write("summary", "", command=command, exit_code=code, **self.summary, **told)

    @contextmanager
    def show_progress(self, title: str) -> Iterator[ShowProgress]:
        """Yield a function that draws a bar on a terminal, and does nothing elsewhere."""
        console = Console(stderr=True, highlight=False, markup=False)
        if self.as_json or not console.is_terminal:
            yield lambda _done, _total, _words: None
            return
        words = TextColumn("{task.fields[words]}", markup=False)
        bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), words,
            console=console, transient=True, redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        task = bar.add_task(title, total=None, words="")
        self._waiting = []
        try:
            with bar:
                yield lambda done, total, words: bar.update(task, completed=done, total=total or None, words=words)
        finally:
            waiting, self._waiting = self._waiting, None
            for line in waiting:
                self.write("", line)


def run_command(command: str, work: Callable[[Output], int], *, as_json: bool) -> int:
    """Return the exit code of `work`; print what went wrong as one line on standard error."""
    output = Output(as_json=as_json)
    code, error = FAILED, ""
    try:
        try:
            code = work(output)
        except (ServingError, ProcessFailed, OSError, ValueError) as failure:
            if isinstance(failure, BrokenPipeError):
                raise
            error = describe(failure)
        except Stopped as stopped:
            code, error = INTERRUPTED, str(stopped)
        except KeyboardInterrupt:
            code, error = INTERRUPTED, "stopped"
        if error:
            sys.stderr.write(f"dormouse {command}: {make_printable(error)}\n")
        output.write_summary(command, code, error)
    except BrokenPipeError:  # whoever read it has gone; Python writes at its end what is still buffered
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def confirm(question: str, refused: str, *, yes: bool) -> None:
    """Ask on the terminal. Raises Stopped with `refused` unless the answer is yes."""
    if yes:
        return
    sys.stderr.write(make_printable(f"{question} [y/N] "))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Stopped(refused)


def describe(failure: Exception) -> str:
    """Return a failure as one line."""
    if isinstance(failure, ServingError):
        return failure.message
    if isinstance(failure, OSError) and failure.strerror:
        return f"{failure.filename}: {failure.strerror}" if failure.filename else failure.strerror
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return " ".join([lines[0], *lines[-1:]] if len(lines) > 1 else lines) or type(failure).__name__


def write_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def make_printable(text: str) -> str:
    """Return the text as one line that changes nothing on a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
