"""The sources of the page and of the bench, parsed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.repository import ROOT


@cache
def list_modules() -> list[tuple[Path, ast.Module]]:
    paths = [path for package in ("ui", "bench") for path in sorted((ROOT / package).rglob("*.py"))]
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def list_texts(tree: ast.Module) -> Iterator[str]:
    """All string literals, without those that stand alone: docstrings."""
    alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in alone:
            yield node.value
