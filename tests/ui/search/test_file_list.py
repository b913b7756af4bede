"""The window of a list of files."""

from __future__ import annotations

import re

import gradio as gr
import pytest

from serving.library.records import StoredFile
from ui.search.file_list import ListView, find_files, parse_view, render_files

FILES = [StoredFile(f"box {n % 7}/file {n}.pdf", f"{n:064x}", n % 5 + 1, 9, float(n)) for n in range(250)]


def listed(view: ListView, files: list[StoredFile] = FILES) -> tuple[list[str], str]:
    """Names in the window, and what stands between the buttons."""
    html = render_files("c-1", files, 700, view)
    where = re.search(r"<span>(Page [^<]*)</span>", html)
    return re.findall(r'<li data-name="([^"]*)"', html), where[1] if where else ""


@pytest.mark.parametrize(
    ("view", "first", "last", "where"),
    [
        (ListView(), 0, 99, "Page 1 of 3"),
        (ListView(page=3), 200, 249, "Page 3 of 3"),
        (ListView(page=99), 200, 249, "Page 3 of 3"),
        (ListView("newest"), 249, 150, "Page 1 of 3"),
        (ListView("pages", page=3), 0, 245, "Page 3 of 3"),
        (ListView("name", "box 3/"), 3, 248, ""),
        (ListView("name", "FILE box 24 PDF"), 224, 244, ""),
    ],
)
def test_a_window_of_the_files_is_shown(view: ListView, first: int, last: int, where: str) -> None:
    names, shown = listed(view)
    assert (names[0].split("/")[1], names[-1].split("/")[1], shown) == (f"file {first}.pdf", f"file {last}.pdf", where)


def test_numbers_in_names_are_sorted_as_numbers() -> None:
    names = ("b 10", "b 9", "B 1", "a", "10", "9", "²")
    found, _ = listed(ListView("name"), [StoredFile(name, name, 1, 1) for name in names])
    assert found == ["9", "10", "a", "B 1", "b 9", "b 10", "²"]


def test_a_short_list_has_nothing_to_turn_or_find() -> None:
    html = render_files("c-1", FILES[:100], 300, ListView())
    assert "data-turn" not in html and "data-search" not in html and "data-asked" not in html
    html = render_files("c-1", FILES, 700, ListView(find="nowhere", asked="7"))
    assert "No file has this in its name" in html and "data-found" not in html and 'data-asked="7"' in html
    assert [file.sha256 for file in find_files(FILES, "box 3/file 24.")] == [FILES[24].sha256]


def test_what_a_browser_sends_is_a_view_or_the_first_one() -> None:
    for sent in ({"sort": "up", "find": "x" * 999, "page": "-3"}, {"sort": None, "find": "x" * 999, "page": "٣"}):
        assert parse_view(gr.EventData(None, sent)) == ListView("oldest", "x" * 255)
    sent = {"sort": "name", "find": "a", "page": 7, "ask": 3}
    assert parse_view(gr.EventData(None, sent)) == ListView("name", "a", 7, "3")
