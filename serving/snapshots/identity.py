"""What a snapshot belongs to: memory of a process is right for one machine and one set of files only."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import serving
from serving.embedders import NAMES
from serving.snapshots import Spec

Identity = Mapping[str, str]


def identity(spec: Spec, **backend: str) -> Identity:
    """Name -> value; two snapshots may stand in for each other only if all of it is equal.

    `fingerprint` covers the weights (by their hash) and the preprocessing, `code` our own sources, `cpu` what native
    code chose its instructions by. `backend` adds what the backend depends on itself.
    """
    return {
        "embedder": spec.embedder,
        "fingerprint": spec.fingerprint,
        "code": code(spec.embedder),
        "python": f"{platform.python_implementation()} {sys.version.split()[0]} {sys.executable}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu(),
        "cores": str(spec.settings.cores),
        **{f"package {name}": version for name, version in packages().items()},
        **backend,
    }


def mismatch(mine: Identity, other: Identity) -> str | None:
    """The first things that differ, in words; None if nothing does."""
    differing = sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))
    if not differing:
        return None
    told = [f"{name} {other.get(name, 'absent')!r} there, {mine.get(name, 'absent')!r} here" for name in differing[:3]]
    return "; ".join(told) + (f"; and {len(differing) - 3} more" if len(differing) > 3 else "")


def digest(mine: Identity) -> str:
    text = "\n".join(f"{name}\t{value}" for name, value in sorted(mine.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def packages() -> dict[str, str]:
    found = importlib.metadata.distributions()
    return {distribution.metadata["Name"].lower(): distribution.version for distribution in found}


def code(embedder: str) -> str:
    """SHA-256 of our sources, and of the module of an embedder that is not ours."""
    files = sorted(Path(serving.__file__).parent.rglob("*.py"))
    module = NAMES.get(embedder, embedder).partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:
        files.append(Path(spec.origin))
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def cpu() -> str:
    """Model and features: libraries choose their instructions by them when they are loaded."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part")
    told = dict.fromkeys(line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() in wanted)
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name} {hashlib.sha256(repr(list(told)).encode()).hexdigest()[:12]}".strip()
