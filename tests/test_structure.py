"""The layers of the code: which way imports point, how long functions are, and what an installation weighs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.support.distributions import installed
from tests.support.repository import ROOT

LAYERS = [
    "ui.__main__",
    "ui.app",
    "ui.deploy",
    "ui.server",
    "ui.commands",
    "ui.api",
    "ui.search",
    "ui.coldstart",
    "ui.components",
    "ui.core",
    "ui.access",
    "ui.servers",
    "bench.__main__",
    "bench.prime",
    "bench.cost",
    "bench.speed",
    "bench.coldstart",
    "bench.quality",
    "bench.results",
    "bench.options",
    "bench.templating",
    "serving.__main__",
    "serving.serve_hf_snapshot",
    "serving.serve_vllm_snapshot",
    "serving.serve_ray",
    "serving.cluster",
    "serving.cloud",
    "serving.engine",
    "serving.worker",
    "serving.client",
    "serving.snapshots",
    "serving.library",
    "serving.http",
    "serving.embedders",
    "serving.documents",
    "serving.settings",
    "serving.system",
    "serving.errors",
]
"""From top to bottom: a module imports from its own layer and from those below it (tasks: ARCHITECTURE.md)."""
LARGE = re.compile(r"\b(Vectors|NDArray|Image\.Image|Tensor|(?<!Popen\[)bytes)\b")
LONGEST_FUNCTION = 60
LONGEST_MODULE = 460


@cache
def modules() -> dict[str, Path]:
    """Return every module of the three packages by its dotted name."""
    found = {}
    for package in ("serving", "bench", "ui"):
        for path in (ROOT / package).rglob("*.py"):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_names(path: Path) -> set[str]:
    """Return the dotted names that a module imports, within functions and for type checking as well."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_modules(name: str) -> set[str]:
    """Return which of our modules a module imports."""
    found = set()
    for imported in imported_names(modules()[name]):
        for known in (imported, imported.rpartition(".")[0]):
            if known in modules():
                found.add(known)
                break
    return found - {name}


def layer(name: str) -> int:
    """Return the place of a module's layer in LAYERS; the bare packages are below all."""
    if name in ("serving", "bench", "ui"):
        return len(LAYERS)
    return next(place for place, known in enumerate(LAYERS) if name == known or name.startswith(known + "."))


def test_imports_point_down() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name in modules()
        for imported in imported_modules(name)
        if layer(imported) < layer(name) < len(LAYERS)
    ]
    assert not wrong


def test_sources_import_neither_tests_nor_assets() -> None:
    for path in modules().values():
        assert not {name.split(".")[0] for name in imported_names(path)} & {"tests", "assets"}, path


def test_modules_form_no_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for imported in sorted(imported_modules(name)):
                visit(imported, (*way, name))
            done.add(name)

    for name in modules():
        visit(name, ())


def test_tests_import_no_test_module() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        shared = [name for name in imported_names(path) if re.search(r"^tests\.(\w+\.)*test_", name)]
        assert not shared, f"{path.relative_to(ROOT)} imports {shared}: what tests share is in tests/support"


def test_tests_mirror_the_sources() -> None:
    """A folder of tests has the name of the package that it tests."""
    for top in ("serving", "bench", "ui"):
        for path in (ROOT / "tests" / top).rglob("test_*.py"):
            package = path.parent.relative_to(ROOT / "tests")
            assert (ROOT / package / "__init__.py").is_file(), f"{path.relative_to(ROOT)} mirrors no package"


def test_functions_and_modules_are_short() -> None:
    for path in modules().values():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE, f"{path} is long"
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}: {node.name} has {length} lines"


def test_dataclasses_with_pictures_or_arrays_are_not_compared_by_value() -> None:
    """`==`, `in`, `remove` or `index` on such a dataclass would compare every pixel, or fail on an array."""
    for path in modules().values():
        for found in ast.walk(tree(path)):
            if isinstance(found, ast.ClassDef):
                decorators = [ast.unparse(decorator) for decorator in found.decorator_list]
                fields = [ast.unparse(field.annotation) for field in found.body if isinstance(field, ast.AnnAssign)]
                by_value = any(text.startswith("dataclass") and "eq=False" not in text for text in decorators)
                large = [text for text in fields if LARGE.search(text)]
                assert not (by_value and large), f"{path.relative_to(ROOT)}: {found.name} compares {', '.join(large)}"


def test_a_command_of_the_bench_loads_no_package_of_the_others() -> None:
    """On a GPU machine there may be no page and no store; `PYTHON_GPU` names such an interpreter."""
    code = "import sys, bench.__main__; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in found.stdout.split()}
    assert not loaded & {"gradio", "gradio_client", "usearch", "torch", "modal", "plotly", "playwright", "httpx2", "ui"}


def test_worker_imports_no_page_no_store_and_no_torch() -> None:
    """A worker process is snapshotted: what it does not need must not be in it."""
    names = ("serving.worker.process", "serving.worker.server", "serving.embedders.builtin.embedder")
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in found.stdout.split()}
    assert not loaded & {"gradio", "ui", "bench", "usearch", "sqlite3", "torch", "modal", "plotly", "pandas", "aiohttp"}


def test_base_install_has_no_torch_and_stays_small() -> None:
    found = installed("dormouse-search", set())
    assert not found & {"torch", "transformers", "vllm", "modal", "colpali-engine"}
    size = 0
    for name in found - {"dormouse-search"}:
        for file in importlib.metadata.files(name) or []:
            path = Path(str(file.locate()))
            size += path.stat().st_size if path.is_file() else 0
    assert 300_000_000 < size < 1_200_000_000, f"{size / 1e6:.0f} MB in {sorted(found)}"
