"""The interface of a snapshot backend, which saves a warmed-up worker and restores it any number of times.

A backend handles processes and files; the engine decides when to start or stop one. The moment of the snapshot is the
same for all: after warm-up and before any socket, with the worker blocked on its control pipe
(`serving.worker.process`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from serving.embedders.base import Embedder, GpuEmbedder
from serving.settings import Settings
from serving.snapshots.worker_handle import WorkerHandle

Tier = Literal["none", "disk", "host", "context"]
"""Held at zero: nothing; a file; a process in memory with the GPU free; a GPU context without weights."""
BACKEND_NAMES = ("criu", "criu+cuda", "cuda", "fork", "plain")
"""In the order in which `auto` tries them."""


@dataclass(frozen=True)
class WorkerSpec:
    """The description of a worker: everything that a start needs and no request changes."""

    embedder: str
    """A name of `serving.embedders.base.EMBEDDERS`, or `package.module:Class`."""
    fingerprint: str
    settings: Settings
    cpu: bool = True
    """True if it holds no GPU: only then may it be forked, or dumped without the CUDA driver's help."""
    backends: tuple[str, ...] = ("criu", "fork")
    """The backends that can save this embedder."""
    files: tuple[Path, ...] = ()
    """Weights that a worker on a GPU frees when it sleeps and reads again: they are not in a snapshot."""
    waking_bytes: int = 0
    """GPU memory that the weights take."""
    gpu: str = ""
    """UUID of the GPU that it uses; empty: the first that it sees."""

    @classmethod
    def describe(cls, name: str, embedder: Embedder, settings: Settings, gpu: str = "") -> WorkerSpec:
        """Return the description for an embedder, which need not be loaded, and the name that it is found by."""
        on_gpu = (embedder.weight_files, embedder.waking_bytes) if isinstance(embedder, GpuEmbedder) else ((), 0)
        return cls(name, embedder.fingerprint, settings, embedder.device == "cpu", embedder.backends, *on_gpu, gpu)


@dataclass(frozen=True)
class Launch:
    """The message that a worker gets at its launch; no part of it is in the snapshot."""

    socket: Path
    kind: Literal["plain", "created", "restored"]
    settings: Mapping[str, Any] = field(repr=False)
    """All settings of the engine, keys included (`Settings.known_at_launch`)."""
    waking_bytes: int = 0

    def as_message(self) -> dict[str, Any]:
        return {"socket": str(self.socket), "kind": self.kind, "settings": dict(self.settings)}


@dataclass(frozen=True)
class Support:
    """Whether a backend works here for a worker."""

    ok: bool
    reason: str = ""
    """Why it does not work, in a sentence that says what to do."""
    detail: Mapping[str, str] = field(default_factory=dict)
    """The versions that the verdict is for, and the mode that worked."""


@dataclass(frozen=True)
class Snapshot:
    """A saved worker, in files or as a process."""

    key: str
    created: float
    """Unix seconds."""
    bytes: int
    """Size on disk; 0 for a process that is held in memory."""
    probe: list[list[float]]
    """Vectors of the fixed inputs before the snapshot: float[n][dimension]."""
    content: Any = field(default=None, compare=False, repr=False)
    """For the backend's use: a folder with its manifest; None for a process that it holds."""


Report = Callable[[str, float | None], None]
"""Called with a phase's name when it begins (None) and with its milliseconds when it has ended."""


class SnapshotBackend(Protocol):
    """One way to save workers."""

    name: str

    @property
    def tier(self) -> Tier:
        """Return the tier at zero, now or at the next scale-down."""

    async def probe(self, spec: WorkerSpec) -> Support:
        """Try a snapshot and restore of a small process, under a deadline; never guess from the system's name."""

    async def find(self, spec: WorkerSpec) -> Snapshot | None:
        """Return the snapshot of exactly this worker, whole and unchanged; any other is refused, and None returned."""

    async def create(self, spec: WorkerSpec, report: Report) -> Snapshot:
        """Start a worker, warm it up and save it. Raises StartFailed or SnapshotFailed."""

    async def restore(self, snapshot: Snapshot, launch: Launch, report: Report) -> WorkerHandle:
        """Return a worker that answers at `launch.socket`. Raises RestoreFailed; then nothing is left running."""

    async def step_down(self, _seconds: float) -> float | None:
        """Give up held memory step by step, after so many seconds at zero.

        Returns the seconds until the next call, None for never. Raises SnapshotFailed if the snapshot is lost.
        """
        return None

    async def discard(self, snapshot: Snapshot) -> None: ...

    async def close(self) -> None:
        """End held processes when the engine stops; files stay."""
        return


class StartFailed(Exception):
    """The worker itself did not start: another way of starting it would fail as well.

    `public`: any client may read the reason; otherwise it may contain paths, and is for the log and /engine.
    """

    def __init__(self, reason: str, *, public: bool = False) -> None:
        super().__init__(reason)
        self.public = public


class SnapshotFailed(Exception):
    """The worker started, but could not be saved."""


class RestoreFailed(Exception):
    """The snapshot gave no worker, or a wrong one."""


class GpuMemoryInUse(RestoreFailed):
    """Something else uses the GPU's memory; the snapshot is still good. Any client may read the message."""
