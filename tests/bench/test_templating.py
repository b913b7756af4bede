"""Jinja2 as the project sets it up: values are escaped, a missing one is an error, line breaks are not output."""

from __future__ import annotations

import pytest
from jinja2 import DictLoader, UndefinedError

from bench.templating import create_environment, join_lines


def render(source: str, **values: object) -> str:
    return create_environment("bench").overlay(loader=DictLoader({"x": source})).get_template("x").render(values)


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("<ol>\n  <li>one\n  two</li>\n\n</ol>\n", "<ol><li>one two</li></ol>"),
        ("<b>one</b> <i>two</i>", "<b>one</b> <i>two</i>"),
        ("<p\n  class='a'>\n  {% if true %}\n  one {{ 2 }}\n  {% endif %}\n</p>", "<p class='a'>one 2</p>"),
        ("{{ 1 }}\n{{ 2 }} {{ 3 }}", "12 3"),
        ("{{ 'a\n b' }}", "a\n b"),
    ],
)
def test_line_breaks_of_a_template_are_no_spaces_of_the_page(source: str, html: str) -> None:
    assert render(source) == html
    assert join_lines("a\n  b") == "a b"


def test_values_are_escaped_and_keep_their_line_breaks() -> None:
    assert render("<p>{{ words }}</p>", words="<b>\n&") == "<p>&lt;b&gt;\n&amp;</p>"


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'words' is undefined"):
        render("{{ words }}")
