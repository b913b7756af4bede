"""Which way imports point between HTTP, the worker and the engine, in functions and for type checkers too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SERVING = Path(__file__).parent.parent / "serving"
HTTP = {"guard", "replies", "schema", "edge", "server", "process"}
BELOW_HTTP = {"embedders", "prompts", "pages", "disk", "memory", "deadlines", "logs", "names", "settings", "errors"}


def imported_of_serving(module: str) -> set[str]:
    """Return the modules of `serving` that one of them imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((SERVING / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "serving":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("serving."):
            names.add((node.module or "").split(".")[1])
    return names


@pytest.mark.parametrize("module", sorted(HTTP))
def test_http_knows_no_worker_and_no_engine(module: str) -> None:
    assert imported_of_serving(module) <= HTTP | BELOW_HTTP


def test_the_engine_is_known_by_those_who_watch_it_and_not_the_other_way_round() -> None:
    assert not imported_of_serving("engine") & {"engine_metrics", "engine_routes", "front", "status"}
    assert not imported_of_serving("waiting") & {"engine", "starter"}
