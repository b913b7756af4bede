"""Which way imports point, and what an installation weighs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "serving": {"serving"},
    "bench": {"bench", "serving"},
    "ui": {"ui", "bench", "serving"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = imported(path) & {"serving", "bench", "ui", "tests", "assets"}
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {ours - ALLOWED[package]}"


def module_imports(package: str) -> dict[str, set[str]]:
    """Each module of a package with those of the same package that it names anywhere, for types alone too."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / package).rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        found[name] = names & set(paths) - {name}
    return found


@pytest.mark.parametrize("package", ["bench"])
def test_no_two_modules_need_each_other(package: str) -> None:
    left = module_imports(package)
    while free := [name for name, names in left.items() if not names & set(left)]:
        for name in free:
            del left[name]
    assert not left, "import cycles among these, or above them"


def test_worker_imports_no_page_no_store_and_no_torch() -> None:
    """A worker process is snapshotted: what it does not need must not be in it."""
    code = "import sys, serving.worker.process, serving.worker.server, serving.embedders.builtin.embedder; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in found.stdout.split()}
    assert not loaded & {"gradio", "ui", "bench", "usearch", "sqlite3", "torch", "modal", "plotly", "pandas", "aiohttp"}


def installed(name: str, seen: set[str]) -> set[str]:
    """The distributions that `name` needs without extras, as they are installed here."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return seen
    seen.add(key)
    for line in importlib.metadata.requires(key) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            installed(requirement.name, seen)
            for extra in requirement.extras:
                for other in importlib.metadata.requires(requirement.name) or []:
                    wanted = Requirement(other)
                    if wanted.marker is not None and wanted.marker.evaluate({"extra": extra}):
                        installed(wanted.name, seen)
    return seen


def test_base_install_has_no_torch_and_stays_small() -> None:
    found = installed("dormouse-search", set())
    assert not found & {"torch", "transformers", "vllm", "modal", "colpali-engine"}
    size = 0
    for name in found - {"dormouse-search"}:
        for file in importlib.metadata.files(name) or []:
            path = Path(str(file.locate()))
            size += path.stat().st_size if path.is_file() else 0
    assert 300_000_000 < size < 1_200_000_000, f"{size / 1e6:.0f} MB in {sorted(found)}"


def test_no_file_asks_to_be_split() -> None:
    for package in ALLOWED:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert len(text.splitlines()) <= 460, f"{path.relative_to(ROOT)} is long"
