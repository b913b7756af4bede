"""The identity of a snapshot: the memory of a process is right for one machine and one set of files only."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from serving.embedders.base import EMBEDDERS
from serving.snapshots.base import WorkerSpec
from serving.system.environment import library_variables

Identity = Mapping[str, str]


def make_identity(spec: WorkerSpec, maker: str, **backend: str) -> Identity:
    """Return name -> value; a snapshot may be used only where all of them are equal.

    `fingerprint` covers the weights (by their hash) and the preprocessing, `code` our own sources, `cpu` the
    features by which native code chose its instructions. `maker` is the backend's module; `backend` adds what that one
    depends on.
    """
    sources = (hashlib.sha256(file.read_bytes()).digest() for file in find_sources(spec.embedder, maker))
    packages = importlib.metadata.distributions()
    return {
        "embedder": spec.embedder,
        "fingerprint": spec.fingerprint,
        "code": hashlib.sha256(b"".join(sources)).hexdigest()[:16],
        "python": f"{platform.python_implementation()} {sys.version.split()[0]} {sys.executable}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": describe_cpu(),
        **{f"setting {name}": str(value) for name, value in spec.settings.known_at_load().items()},
        **{f"variable {name}": value for name, value in library_variables().items()},
        **{f"package {package.metadata['Name'].lower()}": package.version for package in packages},
        **backend,
    }


def describe_mismatch(mine: Identity, other: Identity) -> str | None:
    """Return the first differences in words; None if there are none."""
    differing = sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))
    if not differing:
        return None
    shown = [f"{name} {other.get(name, 'absent')!r} there, {mine.get(name, 'absent')!r} here" for name in differing[:3]]
    return "; ".join(shown) + (f"; and {len(differing) - 3} more" if len(differing) > 3 else "")


def digest_identity(mine: Identity) -> str:
    text = "\n".join(f"{name}\t{value}" for name, value in sorted(mine.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_sources(embedder: str, maker: str) -> list[Path]:
    """Return our source files that a worker of this embedder may load, and those that start and save it.

    They are found by reading import statements, also inside functions: nothing is imported, and modules that a worker
    loads later are included. The package of an embedder from elsewhere counts as ours.
    """
    waiting = ["serving.worker.process", maker, EMBEDDERS.get(embedder, embedder).partition(":")[0]]
    folders = {
        top: folder for name in waiting if (folder := find_package_folder(top := name.partition(".")[0])) is not None
    }
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        folder = folders.get(name.partition(".")[0])
        file = None if folder is None or name in found else find_module_file(folder, name)
        if file is not None:
            found[name] = file
            parent = name.rpartition(".")[0]
            waiting += [parent, *read_imports(file, name if file.name == "__init__.py" else parent)]
    return sorted(found.values())


def find_package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not (files := [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]):
        return None
    return Path(files[0]).parent


def find_module_file(folder: Path, name: str) -> Path | None:
    """Return the file of that module; None for other names, such as a function that was imported."""
    path = folder.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def read_imports(file: Path, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def describe_cpu() -> str:
    """Return the CPU's model and a hash of its features, by which libraries choose their instructions at load."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part")
    features = dict.fromkeys(
        line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() in wanted
    )
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name} {hashlib.sha256(repr(list(features)).encode()).hexdigest()[:12]}".strip()
