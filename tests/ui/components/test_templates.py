"""The page's HTML stands in templates and its JavaScript in files: nothing is escaped by hand."""

from __future__ import annotations

import ast
import re

import pytest
from jinja2 import TemplateNotFound, UndefinedError

from bench.coldstart import report
from tests.support.sources import list_modules, list_texts
from ui.components.templates import TEMPLATES, render_template

FIGURES = {"figures.py", "cost_figures.py"}
"""Plotly reads a few tags in labels, which are JSON and no part of a page."""
TAG = re.compile(r"</[a-z]+[0-9]?>|<(b|br|i|li|p|td)>|<[a-z]+ [a-z-]+=", re.IGNORECASE)


def test_no_module_writes_html() -> None:
    for path, tree in list_modules():
        if path.name in FIGURES:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in ("html", "markupsafe", "xml.sax.saxutils"):
                assert "escape" not in {alias.name for alias in node.names}, f"{path} escapes by hand"
        for text in list_texts(tree):
            assert not TAG.search(text), f"{path} has markup: {text!r}"


def test_each_template_is_whole_and_used() -> None:
    for found in (TEMPLATES, report.TEMPLATES):
        sources = [(found.loader.get_source(found, name)[0]) for name in found.list_templates()]  # type: ignore[union-attr]
        used = {text for _, tree in list_modules() for text in list_texts(tree)}
        used |= {name for source in sources for name in re.findall(r'(?:include|from) "([^"]+)"', source)}
        for name in found.list_templates():
            found.get_template(name)
            assert name in used, f"no module shows {name}"
            assert "| safe" not in sources[found.list_templates().index(name)] or name in ("head.html", "report.html")


def test_values_are_escaped_and_a_missing_one_is_an_error() -> None:
    nasty = "\"'><script>&"
    assert nasty not in (html := render_template("notice.html", title=nasty, text=nasty, kind=nasty))
    assert html.count("&#34;&#39;&gt;&lt;script&gt;&amp;") == 3
    with pytest.raises(UndefinedError, match="kind"):
        render_template("notice.html", title="", text="")
    with pytest.raises(TemplateNotFound):
        render_template("../templates.py")
