"""`dormouse search`, in a data folder and on a running page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import Dormouse, write_files
from tests.support.files import pdf
from ui.commands.query import shorten


def test_the_page_that_answers_comes_first(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    manual = write_files(tmp_path, {"m.pdf": pdf([["coffee"], ["swimming"], ["opening hours"]])}) / "m.pdf"
    assert anywhere("add", manual, "--collection", name).code == 0
    found = anywhere("search", "swimming", "--collection", name, "--top-k", 2, "--json")
    assert found.code == 0 and found.summary["hits"] == 2
    first, second = found.records
    assert set(first) == {"type", "rank", "score", "file", "page", "id", "line"}
    assert (first["rank"], first["file"], first["page"]) == (1, "m.pdf", 2) and first["score"] > second["score"]
    plain = anywhere("search", "swimming", "--collection", name)
    assert plain.out.splitlines()[0] == " 1  1.000  m.pdf, page 2  swimming" and len(plain.out.splitlines()) == 3
    assert first["line"] == "swimming" and len(shorten("x" * 500)) == 102 and shorten(None) == ""


def test_mistakes_are_told(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    anywhere("add", tmp_path / "empty", "--collection", name)
    assert "has no pages yet" in anywhere("search", "a", "--collection", name).out
    unknown = anywhere("search", "a", "--collection", "nobody's", "--json")
    assert (unknown.code, unknown.records) == (1, []) and "`dormouse list` shows" in unknown.summary["error"]
    assert anywhere("search", " ", "--collection", name).code == 1


@pytest.mark.parametrize("number", ["0", "51", "-1", "1.5", "many"])
def test_top_k_is_checked(dormouse: Dormouse, number: str) -> None:
    found = dormouse("search", "a", "--collection", "c", f"--top-k={number}")
    assert found.code == 2 and "1 to 50" in found.err
