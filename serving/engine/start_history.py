"""The record of every start, failures included, phase by phase; the expected time of the next start comes from it.

It is a file of JSON lines, so that a restarted engine knows what to expect.
"""

from __future__ import annotations

import logging
import statistics
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from serving.http.responses import StartKind
from serving.system.files import write_file

Outcome = Literal["served", "failed"]
KEPT = 200
log = logging.getLogger(__name__)


@dataclass
class StartRecord:
    """One start, from zero to an answer or a failure. Milliseconds, except `at`."""

    at: float
    """Unix seconds."""
    backend: str
    kind: StartKind = "plain"
    outcome: Outcome = "served"
    reason: str = ""
    """Why it failed, or why it is plain although a snapshot was to be used."""
    phases: dict[str, float] = field(default_factory=dict)
    ready_ms: float = 0.0
    """Until the worker could answer."""
    first_answer_ms: float | None = None
    """Until the first answer's headers; None before that, and for a start that no request waited for."""
    worker: int = 0
    """The number of its worker."""


RECORD = TypeAdapter(StartRecord)


class StartHistory:
    """The latest starts, in memory and in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: list[StartRecord] = []
        self._lines = 0

    def load(self) -> None:
        """Read the file; lines that cannot be read, such as the torn last line of a killed engine, are left out."""
        with suppress(OSError):
            lines = self._path.read_bytes().splitlines()
            self._lines = len(lines)
            for line in lines[-KEPT:]:
                with suppress(ValidationError):
                    self.records.append(RECORD.validate_json(line))

    def add(self, record: StartRecord) -> None:
        self.records = [*self.records[-KEPT:], record]

    def write(self, record: StartRecord) -> None:
        try:
            self._lines += 1
            if self._lines > 2 * KEPT:
                write_file(self._path, b"".join(RECORD.dump_json(kept) + b"\n" for kept in self.records))
                self._lines = len(self.records)
                return
            with self._path.open("ab") as stream:
                stream.write(RECORD.dump_json(record) + b"\n")
        except OSError as error:
            log.warning("a start could not be recorded in %s: %s", self._path.name, error.strerror)

    def expected_ms(self, kind: str, backend: str) -> float | None:
        """Return the median time to an answering worker of the latest twenty such starts; None without one."""
        times = [
            record.ready_ms
            for record in self.records
            if record.outcome == "served" and record.kind == kind and (kind == "plain" or record.backend == backend)
        ]
        return round(statistics.median(times[-20:]), 1) if times else None
