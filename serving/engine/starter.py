"""Starts a worker: from a snapshot if there is one, in full otherwise or after a failed restore. Counts failures.

Knows no request, no timer and no state but its own.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from serving.embedders.probe import describe_difference, why_unusable
from serving.engine.start_history import StartRecord
from serving.http.responses import StartKind
from serving.snapshots import base
from serving.snapshots.choose import BackendChoice
from serving.snapshots.plain import PlainStarter, report_phase
from serving.snapshots.worker_handle import WorkerHandle

MAX_FAILURES_IN_A_ROW = 2
"""Failed snapshots or restores; then the backend is disabled until a rebuild is asked for or the engine restarts."""
EnterState = Callable[[Literal["starting", "restoring"]], None]
"""Called with the state that a start begins with."""
log = logging.getLogger(__name__)


@dataclass
class RunningWorker:
    """A worker that answers, until its end."""

    handle: WorkerHandle
    start: StartRecord
    tier: base.Tier
    in_flight: int = 0
    complete: bool = False
    """Its start is over and recorded: it has answered, or no request waits for its first answer."""


@dataclass
class Starter:
    """Starts workers, one after the other, and keeps what they start from."""

    spec: base.WorkerSpec
    choice: BackendChoice
    runtime_dir: Path
    """Folder of the workers' sockets."""
    plain: PlainStarter = field(default_factory=PlainStarter)
    number: int = 0
    """That of its worker, from 0."""
    making: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a snapshot is made. Workers that share snapshots share it: one makes theirs, the others wait."""
    snapshot: base.Snapshot | None = None
    disabled: str = ""
    """Why the chosen backend is no longer used; empty while it is used."""
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Failures by (backend, step); the step is snapshot, restore or park."""
    fallbacks: int = 0
    """Plain starts although a snapshot was to be used."""
    failures_in_a_row: int = 0

    @property
    def next_kind(self) -> StartKind:
        if self.choice.backend is None or self.disabled:
            return "plain"
        return "created" if self.snapshot is None else "restored"

    async def adopt_snapshot(self) -> None:
        """Find and verify a snapshot of an earlier engine, before the first request needs it."""
        if self.choice.backend is not None:
            self.snapshot = await self._find_snapshot(self.choice.backend)

    async def discard_snapshot(self) -> None:
        """Delete the snapshot and enable its backend again: the next start makes a new one."""
        backend, snapshot = self.choice.backend, self.snapshot
        self.snapshot, self.disabled, self.failures_in_a_row = None, "", 0
        if backend is not None and snapshot is not None:
            await backend.discard(snapshot)

    async def step_down(self, seconds: float) -> float | None:
        """Have the backend give up what it holds after `seconds` at zero. Returns seconds to the next step, or None."""
        if self.choice.backend is not None:
            try:
                return await self.choice.backend.step_down(seconds)
            except base.SnapshotFailed as error:
                self.drop_lost_snapshot(str(error))
        return None

    def drop_lost_snapshot(self, reason: str) -> None:
        """Forget a snapshot that was lost while it was held at zero: the next start makes another."""
        self.snapshot = None
        self._count_failure("park", reason)

    async def start(self, record: StartRecord, enter: EnterState, report: base.Report) -> RunningWorker:
        """Return a worker that answers. Fills `record`, calls `enter` and `report` on the way. Raises StartFailed."""
        if self.choice.backend is not None and not self.disabled:
            worker = await self._start_from_snapshot(self.choice.backend, record, enter, report)
            if worker is not None:
                return worker
            self.fallbacks += 1
        enter("starting")
        record.kind = "plain"
        handle = await self.plain.start(self.spec, self._make_launch("plain"), report)
        reason = await verify_probe(handle, why_unusable)
        if reason is not None:
            raise base.StartFailed(reason, public=True)
        return RunningWorker(handle, record, "none")

    async def _start_from_snapshot(
        self, backend: base.SnapshotBackend, record: StartRecord, enter: EnterState, report: base.Report
    ) -> RunningWorker | None:
        """Return the worker; None if a plain start is needed. Raises StartFailed."""
        with report_phase(report, "find"):
            snapshot = self.snapshot = await self._find_snapshot(backend)
        record.kind = "created" if snapshot is None else "restored"
        if snapshot is None:
            enter("starting")
            try:
                snapshot = self.snapshot = await self._create_once(backend, record, report)
            except base.SnapshotFailed as error:
                self._count_failure("snapshot", str(error), record)
                return None
        enter("restoring")
        tier = backend.tier
        try:
            handle = await self._restore_worker(backend, snapshot, record.kind, report)
        except base.GpuMemoryInUse as error:  # a plain start would not find more memory
            raise base.StartFailed(str(error), public=True) from None
        except base.RestoreFailed as error:
            self.snapshot = None
            await backend.discard(snapshot)
            self._count_failure("restore", str(error), record)
            return None
        self.failures_in_a_row = 0
        return RunningWorker(handle, record, tier)

    async def _create_once(
        self, backend: base.SnapshotBackend, record: StartRecord, report: base.Report
    ) -> base.Snapshot:
        """Return a new snapshot, or the one that another worker makes meanwhile. Raises as `_create_snapshot`."""
        is_being_made = self.making.locked()
        async with self.making:
            if is_being_made and (found := await self._find_snapshot(backend)) is not None:
                record.kind = "restored"
                return found
            return await self._create_snapshot(backend, report)

    async def _create_snapshot(self, backend: base.SnapshotBackend, report: base.Report) -> base.Snapshot:
        """Return a new snapshot. Raises StartFailed, or SnapshotFailed, also for a bug in the backend."""
        with raise_bugs_as(base.SnapshotFailed):
            snapshot = await backend.create(self.spec, report)
        reason = why_unusable(snapshot.probe)
        if reason is not None:
            await backend.discard(snapshot)
            raise base.StartFailed(reason, public=True)
        return snapshot

    async def _restore_worker(
        self, backend: base.SnapshotBackend, snapshot: base.Snapshot, kind: StartKind, report: base.Report
    ) -> WorkerHandle:
        """Return the restored worker. Raises RestoreFailed, also if it came back and computes different vectors."""
        with raise_bugs_as(base.RestoreFailed):
            handle = await backend.restore(snapshot, self._make_launch(kind), report)
            reason = await verify_probe(handle, partial(describe_difference, snapshot.probe, exact=self.spec.cpu))
        if reason is not None:
            raise base.RestoreFailed(reason)
        return handle

    async def _find_snapshot(self, backend: base.SnapshotBackend) -> base.Snapshot | None:
        try:
            return await backend.find(self.spec)
        except Exception:
            log.exception("the search for a snapshot failed")
            return None

    def _count_failure(self, what: str, reason: str, record: StartRecord | None = None) -> None:
        if record is not None:
            record.reason = f"{what} failed: {reason}"
        name = self.choice.name
        self.failures[name, what] += 1
        self.failures_in_a_row += 1
        log.warning("%s: %s failed, the next start is a full one: %s", name, what, reason)
        if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self.disabled = f"{self.failures_in_a_row} failures in a row, the last: {what} failed: {reason}"
            log.error("%s is disabled: %s", name, self.disabled)

    def _make_launch(self, kind: StartKind) -> base.Launch:
        self.runtime_dir.mkdir(mode=0o700, exist_ok=True)  # a job that cleans temporary folders may have deleted it
        socket = self.runtime_dir / f"{secrets.token_hex(6)}.sock"
        return base.Launch(socket, kind, self.spec.settings.known_at_launch(), self.spec.waking_bytes)


@contextmanager
def raise_bugs_as(kind: type[base.SnapshotFailed | base.RestoreFailed]) -> Iterator[None]:
    """Raise errors of the block that no backend announces as errors of this kind."""
    try:
        yield
    except (base.SnapshotFailed, base.StartFailed, base.RestoreFailed):
        raise
    except Exception as error:
        log.exception("the backend failed")
        raise kind(f"{type(error).__name__}: {error}") from error


async def verify_probe(handle: WorkerHandle, check: Callable[[Any], str | None]) -> str | None:
    """Return why the worker's probe is wrong, else None. A wrong one, or a failed check, ends the worker."""
    try:
        reason = check(handle.launch_answer["probe"])
    except BaseException:
        await handle.kill()
        raise
    if reason is not None:
        await handle.kill()
    return reason
