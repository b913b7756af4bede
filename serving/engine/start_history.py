"""The record of every start: how it came, phase by phase. What is expected of the next one is read from here.

Kept in a file of JSON lines, so that a restarted engine knows what to expect, and a failure is a record.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from serving.system.files import write_file

Outcome = Literal["served", "failed"]
KEPT = 200
log = logging.getLogger(__name__)


@dataclass
class StartRecord:
    """One way from zero to an answer, or to a failure. Milliseconds, except `at`."""

    at: float
    """Unix seconds."""
    backend: str
    kind: str = "plain"
    """plain, created or restored; what the answers say too."""
    outcome: Outcome = "served"
    reason: str = ""
    """Of a failure, or why this start is plain where a snapshot was meant."""
    phases: dict[str, float] = field(default_factory=dict)
    ready_ms: float = 0.0
    """Until the worker could answer."""
    first_answer_ms: float | None = None
    """Until the first answer's headers; None before, and of a start that nobody waited for."""


class StartHistory:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: list[StartRecord] = []
        self._lines = 0

    def load(self) -> None:
        """What can be read of the file; a torn last line of an engine that was killed is left out."""
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except OSError:
            return
        self._lines = len(lines)
        for line in lines[-KEPT:]:
            try:
                self.records.append(decode_record(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue

    def add(self, record: StartRecord) -> None:
        self.records = [*self.records[-KEPT:], record]

    def write(self, record: StartRecord) -> None:
        """Once it is complete."""
        try:
            self._lines += 1
            if self._lines > 2 * KEPT:
                write_file(self._path, b"".join(encode_record(kept) for kept in self.records))
                self._lines = len(self.records)
                return
            with self._path.open("ab") as stream:
                stream.write(encode_record(record))
        except OSError as error:
            log.warning("a start could not be recorded in %s: %s", self._path.name, error.strerror)

    def expected_ms(self, kind: str, backend: str) -> float | None:
        """Median time to an answering worker of such starts so far, the latest twenty."""
        times = [
            record.ready_ms for record in self.records if record.outcome == "served" and matches(record, kind, backend)
        ]
        return round(statistics.median(times[-20:]), 1) if times else None

    def latest(self, count: int) -> Sequence[dict[str, Any]]:
        return [asdict(record) for record in self.records[-count:][::-1]]


def matches(record: StartRecord, kind: str, backend: str) -> bool:
    return record.kind == kind and (kind == "plain" or record.backend == backend)


def encode_record(record: StartRecord) -> bytes:
    return json.dumps(asdict(record)).encode() + b"\n"


def decode_record(found: dict[str, Any]) -> StartRecord:
    """Raises ValueError, TypeError or KeyError for what is no record of ours."""
    first = found["first_answer_ms"]
    return StartRecord(
        at=float(found["at"]),
        backend=str(found["backend"]),
        kind=str(found["kind"]),
        outcome="failed" if found["outcome"] == "failed" else "served",
        reason=str(found["reason"]),
        phases={str(name): float(took) for name, took in found["phases"].items()},
        ready_ms=float(found["ready_ms"]),
        first_answer_ms=None if first is None else float(first),
    )
