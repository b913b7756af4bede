"""The record of every start, failures included, phase by phase; the expected time of the next start comes from it.

Kept in a file of JSON lines, so that a restarted engine knows what to expect.
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
    """One start, from zero to an answer or a failure. Milliseconds, except `at`."""

    at: float
    """Unix seconds."""
    backend: str
    kind: str = "plain"
    """plain, created or restored, as in `X-Start-Kind`."""
    outcome: Outcome = "served"
    reason: str = ""
    """Why it failed, or why it is plain although a snapshot was to be used."""
    phases: dict[str, float] = field(default_factory=dict)
    ready_ms: float = 0.0
    """Until the worker could answer."""
    first_answer_ms: float | None = None
    """Until the first answer's headers; None before that, and for a start that no request waited for."""


class StartHistory:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: list[StartRecord] = []
        self._lines = 0

    def load(self) -> None:
        """Read the file; lines that cannot be read, such as the torn last line of a killed engine, are left out."""
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
        """Append a complete record to the file."""
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
        """Return the median time to an answering worker of the latest twenty such starts; None without one."""
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
    """Return the record of one line. Raises ValueError, TypeError or KeyError for anything else."""
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
