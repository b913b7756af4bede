"""The page's HTML stands in templates and its JavaScript in files: nothing is escaped by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import TemplateNotFound, UndefinedError

from bench.coldstart import report
from ui.components import scripts
from ui.components.templates import TEMPLATES, render_template

ROOT = Path(__file__).parents[3]
FIGURES = {"figures.py", "cost_figures.py"}
"""Plotly reads a few tags in labels, which are JSON and no part of a page."""
TAG = re.compile(r"</[a-z]+[0-9]?>|<(b|br|i|li|p|td)>|<[a-z]+ [a-z-]+=", re.IGNORECASE)


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in ("ui", "bench"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def texts(tree: ast.Module) -> Iterator[str]:
    """All string literals, without those that stand alone: docstrings."""
    alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in alone:
            yield node.value


def test_no_module_writes_html() -> None:
    for path, tree in modules():
        if path.name in FIGURES:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in ("html", "markupsafe", "xml.sax.saxutils"):
                assert "escape" not in {alias.name for alias in node.names}, f"{path} escapes by hand"
        for text in texts(tree):
            assert not TAG.search(text), f"{path} has markup: {text!r}"


def test_no_module_holds_a_script() -> None:
    for path, tree in modules():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.keyword)
                and node.arg in ("js", "js_on_load")
                and isinstance(node.value, ast.Constant)
            ):
                assert len(str(node.value.value)) < 40, f"{path}:{node.value.lineno} is a script"


def test_each_template_is_whole_and_used() -> None:
    for found in (TEMPLATES, report.TEMPLATES):
        sources = [(found.loader.get_source(found, name)[0]) for name in found.list_templates()]  # type: ignore[union-attr]
        used = {text for _, tree in modules() for text in texts(tree)}
        used |= {name for source in sources for name in re.findall(r'(?:include|from) "([^"]+)"', source)}
        for name in found.list_templates():
            found.get_template(name)
            assert name in used, f"no module shows {name}"
            assert "| safe" not in sources[found.list_templates().index(name)] or name in ("head.html", "report.html")


def test_each_script_is_loaded_and_each_function_called_is_there() -> None:
    calls = [node for _, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    loaded = {argument(node) for node in calls if getattr(node.func, "id", "") == "read_script"}
    assert loaded == {file.name for file in scripts.STATIC.iterdir()}
    called = {argument(node) for node in calls if getattr(node.func, "id", "") == "call_script"}
    assert called == set(re.findall(r"^  (\w+)\(", scripts.read_script("events.js"), re.MULTILINE))
    assert scripts.call_script("shareSearch", 8) == "(...inputs) => window.dormouse.shareSearch(8, ...inputs)"


def argument(node: ast.Call) -> str:
    first = node.args[0]
    assert isinstance(first, ast.Constant)
    return str(first.value)


def test_values_are_escaped_and_a_missing_one_is_an_error() -> None:
    nasty = "\"'><script>&"
    assert nasty not in (html := render_template("notice.html", title=nasty, text=nasty, kind=nasty))
    assert html.count("&#34;&#39;&gt;&lt;script&gt;&amp;") == 3
    with pytest.raises(UndefinedError, match="kind"):
        render_template("notice.html", title="", text="")
    with pytest.raises(TemplateNotFound):
        render_template("../templates.py")
