"""What a snapshot backend is: a warmed-up worker saved, and brought back as often as wanted.

A backend knows processes and files; when to start or stop one is the engine's business. The moment of the snapshot is
the same for all: after warm-up and before any socket, with the worker blocked on its control pipe (`serving.launch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from serving.settings import Settings
from serving.snapshots.worker_handle import WorkerHandle

Tier = Literal["none", "disk", "host", "context"]
"""What is held at zero: nothing; a file; a process in memory with the GPU free; a GPU context without weights."""
BACKEND_NAMES = ("criu", "criu+cuda", "cuda", "fork", "plain")
"""In the order in which `auto` tries them."""


@dataclass(frozen=True)
class WorkerSpec:
    """Which worker: everything that a start needs and a request does not change."""

    embedder: str
    """A name of `serving.embedders.base.EMBEDDERS`, or `package.module:Class`."""
    fingerprint: str
    settings: Settings
    cpu: bool = True
    """It holds no GPU: only then may it be forked or dumped without the CUDA driver's help."""
    backends: tuple[str, ...] = ("criu", "fork")
    """Those that can save this embedder at all."""
    files: tuple[Path, ...] = ()
    """Weights that a worker on a GPU gives back when it sleeps, and reads again: they are not in a snapshot."""
    waking_bytes: int = 0
    """GPU memory that this takes."""


@dataclass(frozen=True)
class Launch:
    """What a worker is told when its life begins; nothing of it is in the snapshot."""

    socket: Path
    kind: Literal["plain", "created", "restored"]
    settings: Mapping[str, Any] = field(repr=False)
    """All of the engine's, keys included (`Settings.known_at_launch`)."""
    waking_bytes: int = 0
    """The spec's."""

    def as_message(self) -> dict[str, Any]:
        return {"socket": str(self.socket), "kind": self.kind, "settings": dict(self.settings)}


@dataclass(frozen=True)
class Support:
    ok: bool
    reason: str = ""
    """Why not, in a sentence that says what to do."""
    detail: Mapping[str, str] = field(default_factory=dict)
    """What the verdict belongs to: versions, and the way that worked."""


@dataclass(frozen=True)
class Snapshot:
    key: str
    created: float
    """Unix seconds."""
    bytes: int
    """On disk; 0 for a process that is held in memory."""
    probe: list[list[float]]
    """The fixed inputs' vectors before the snapshot: float[n][dimension]."""
    where: Any = field(default=None, compare=False, repr=False)
    """The backend's own: a folder or a process."""


Report = Callable[[str, float | None], None]
"""Called with a phase's name when it begins (None) and with its milliseconds when it has ended."""


class SnapshotBackend(Protocol):
    name: str

    @property
    def tier(self) -> Tier:
        """What is held at zero, or would be."""

    async def probe(self, spec: WorkerSpec) -> Support:
        """A real snapshot and restore of a small process, under a deadline: never a guess from the system's name."""

    async def find(self, spec: WorkerSpec) -> Snapshot | None:
        """The snapshot of exactly this worker, whole and unchanged; anything else is refused and None answered."""

    async def create(self, spec: WorkerSpec, report: Report) -> Snapshot:
        """Starts a worker, warms it up and saves it. Raises StartFailed or SnapshotFailed."""

    async def restore(self, snapshot: Snapshot, launch: Launch, report: Report) -> WorkerHandle:
        """A worker that answers at `launch.socket`. Raises RestoreFailed; nothing of a failed one is left running."""

    async def step_down(self, seconds: float) -> float | None:
        """Told at zero, after so many seconds of it: what is held may be given up step by step. Seconds at which it
        wants to be told again, None for never. Raises SnapshotFailed if what was held is lost."""

    async def discard(self, snapshot: Snapshot) -> None: ...

    async def close(self) -> None:
        """The engine stops: what is held in memory goes, files stay."""


class StartFailed(Exception):
    """The worker itself did not come up: another way of starting it would fail as well.

    `public`: the reason is in words that any client may read; else it may hold paths, and is for the log and /engine.
    """

    def __init__(self, reason: str, *, public: bool = False) -> None:
        super().__init__(reason)
        self.public = public


class SnapshotFailed(Exception):
    """The worker came up, but could not be saved."""


class RestoreFailed(Exception):
    """No worker came of the snapshot, or a wrong one."""


class NoRoom(RestoreFailed):
    """The GPU's memory is in use by something else: the snapshot is as good as before. The message is for anybody."""
