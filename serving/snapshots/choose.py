"""Which backend serves this embedder here: asked by trying, with the reasons of those that were passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.settings import Settings
from serving.snapshots.base import SnapshotBackend, Spec
from serving.snapshots.criu.backend import Criu
from serving.snapshots.cuda.backend import Cuda
from serving.snapshots.fork import Fork

ON_GPU = ("criu+cuda", "cuda")


@dataclass(frozen=True)
class Choice:
    requested: str
    backend: SnapshotBackend | None
    """None: every start is plain."""
    detail: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Backends that come before the chosen one, and why each was passed over."""

    @property
    def name(self) -> str:
        return "plain" if self.backend is None else self.backend.name


class Unsupported(Exception):
    """The backend that was asked for does not work here; the message says why."""


def backends(settings: Settings, run: Path) -> list[SnapshotBackend]:
    """In the order in which `auto` tries them: what is cheapest at zero first."""
    criu = Criu(settings, run)
    return [criu, Cuda(settings, run, criu), Cuda(settings, run), Fork()]


async def choose(requested: str, spec: Spec, candidates: Sequence[SnapshotBackend]) -> Choice:
    """`requested`: a backend's name, `plain`, or `auto` for the first that works. Raises Unsupported."""
    if requested == "plain":
        return Choice(requested, None)
    refused: dict[str, str] = {}
    for backend in candidates:
        if requested not in ("auto", backend.name):
            continue
        if requested == "auto" and spec.cpu and backend.name in ON_GPU:
            continue  # not a reason that anybody without a GPU has to read
        if backend.name not in spec.backends:
            refused[backend.name] = "it cannot save the processes of this embedder"
            continue
        support = await backend.probe(spec)
        if support.ok:
            return Choice(requested, backend, support.detail, refused)
        refused[backend.name] = support.reason
    if requested != "auto":
        reason = refused.get(requested, "there is no such backend")
        raise Unsupported(f"--snapshot {requested} cannot be used here: {reason}. Or use --snapshot auto")
    return Choice(requested, None, {}, refused)
