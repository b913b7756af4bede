"""Which backend serves this embedder here: asked by trying, with the reasons of those that were passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.settings import Settings
from serving.snapshots.base import SnapshotBackend, WorkerSpec
from serving.snapshots.criu.backend import CriuBackend
from serving.snapshots.cuda.backend import CudaBackend
from serving.snapshots.fork import ForkBackend

GPU_BACKENDS = ("criu+cuda", "cuda")


@dataclass(frozen=True)
class BackendChoice:
    requested: str
    backend: SnapshotBackend | None
    """None: every start is plain."""
    detail: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Backends that come before the chosen one, and why each was passed over."""

    @property
    def name(self) -> str:
        return "plain" if self.backend is None else self.backend.name


class UnsupportedBackend(Exception):
    """The backend that was asked for does not work here; the message says why."""


def make_backends(settings: Settings, run: Path) -> list[SnapshotBackend]:
    """In the order in which `auto` tries them: what is cheapest at zero first."""
    criu = CriuBackend(settings, run)
    return [criu, CudaBackend(settings, run, criu), CudaBackend(settings, run), ForkBackend()]


async def choose_backend(requested: str, spec: WorkerSpec, candidates: Sequence[SnapshotBackend]) -> BackendChoice:
    """`requested`: a backend's name, `plain`, or `auto` for the first that works. Raises Unsupported."""
    if requested == "plain":
        return BackendChoice(requested, None)
    refused: dict[str, str] = {}
    for backend in candidates:
        if requested not in ("auto", backend.name):
            continue
        if requested == "auto" and spec.cpu and backend.name in GPU_BACKENDS:
            continue  # not a reason that anybody without a GPU has to read
        if backend.name not in spec.backends:
            refused[backend.name] = "it cannot save the processes of this embedder"
            continue
        support = await backend.probe(spec)
        if support.ok:
            return BackendChoice(requested, backend, support.detail, refused)
        refused[backend.name] = support.reason
    if requested != "auto":
        reason = refused.get(requested, "there is no such backend")
        raise UnsupportedBackend(f"--snapshot {requested} cannot be used here: {reason}. Or use --snapshot auto")
    return BackendChoice(requested, None, {}, refused)
