"""Calls of the `dormouse` command: in this process, and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.repository import ROOT
from ui.__main__ import main


@dataclass
class Ended:
    """A command that has ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON objects of `--json`, without the summary. Everything on standard output is one of them."""
        return [json.loads(line) for line in self.out.splitlines()][:-1]

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        assert found["type"] == "summary" and found["exit_code"] == self.code
        return found

    def select(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["type"] == kind]


class Dormouse:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
        """`options` are given to every command."""
        self._capsys = capsys
        self.options = options

    def __call__(self, command: str, *words: object) -> Ended:
        self._capsys.readouterr()
        with patch.object(sys, "argv", ["dormouse", command, *map(str, words), *self.options]):
            try:
                code = main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        told = self._capsys.readouterr()
        assert "Traceback" not in told.err and "\x1b" not in told.out + told.err
        return Ended(code, told.out, told.err)


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    command = [sys.executable, "-m", "ui", *map(str, words)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip


def end(process: subprocess.Popen[str], before: str = "") -> Ended:
    """Wait for a command's end. `before`: what was read of its output already."""
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:  # not `communicate`: it would lose lines that are read ahead
        out, err = process.stdout.read(), process.stderr.read()
    process.wait(90)
    assert "Traceback" not in err, err
    return Ended(process.returncode, before + out, err)


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files with their folders, and return the folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
