"""Choose the snapshot backend of an embedder by trying each, and keep the reasons against those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.settings import Settings
from serving.snapshots.base import SnapshotBackend, WorkerSpec
from serving.snapshots.criu.backend import CriuBackend
from serving.snapshots.cuda.backend import CudaBackend
from serving.snapshots.fork import ForkBackend
from serving.snapshots.store import SnapshotStore

GPU_BACKENDS = ("criu+cuda", "cuda")


@dataclass(frozen=True)
class BackendChoice:
    """The backend of an embedder, and why it is this one."""

    requested: str
    backend: SnapshotBackend | None
    """None: every start is plain."""
    detail: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Backends before the chosen one in the order, and why each was not chosen."""

    @property
    def name(self) -> str:
        return "plain" if self.backend is None else self.backend.name


class UnsupportedBackend(Exception):
    """The requested backend does not work here; the message says why."""


def make_backends(settings: Settings, runtime_dir: Path, store: SnapshotStore | None = None) -> list[SnapshotBackend]:
    """Return all backends of one worker in the order in which `auto` tries them: the cheapest at zero first."""
    criu = CriuBackend(settings, runtime_dir, store)
    cuda = [CudaBackend(settings, runtime_dir, found, store) for found in (criu, None)]
    return [criu, *cuda, ForkBackend()]


async def choose_backend(requested: str, spec: WorkerSpec, candidates: Sequence[SnapshotBackend]) -> BackendChoice:
    """Return the backend. `requested`: a name, `plain`, or `auto`: the first that works. Raises UnsupportedBackend."""
    refused: dict[str, str] = {}
    for backend in candidates:
        if requested not in ("auto", backend.name):
            continue
        if requested == "auto" and spec.cpu and backend.name in GPU_BACKENDS:
            continue  # without a GPU there is no reason to show
        if backend.name not in spec.backends:
            refused[backend.name] = "it cannot save the processes of this embedder"
            continue
        support = await backend.probe(spec)
        if support.ok:
            return BackendChoice(requested, backend, support.detail, refused)
        refused[backend.name] = support.reason
    if requested not in ("auto", "plain"):
        reason = refused.get(requested, "there is no such backend")
        raise UnsupportedBackend(f"--snapshot {requested} cannot be used here: {reason}. Or use --snapshot auto")
    return BackendChoice(requested, None, {}, refused)
