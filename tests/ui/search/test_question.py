from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from serving.errors import BadValueError
from serving.library.records import Selection
from tests.support.hits import hit
from ui.core.service import Question, SearchResult
from ui.search import question
from ui.search.question import LastSearch


def test_what_a_browser_sends_becomes_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"x")
    image = {"path": str(tmp_path / "a.png"), "orig_name": "a.png"}
    found = question.parse_question("words", image, 30, 0.2, ["a", "a", "b"], ["pdf"])
    assert found == Question("words", tmp_path / "a.png", 0.3, "", 0.2, Selection(("a", "b"), ("pdf",)))
    empty = question.parse_question("words", None, "", "")
    assert empty == Question("words"), "an empty box is no value"
    assert question.parse_question("", None, 0, 0).minimum is None, "a page's score may be below the slider's 0"
    with pytest.raises(BadValueError, match="was not uploaded"):
        question.parse_question("", {"path": "/etc/passwd"}, 50, 0)


@pytest.mark.parametrize("value", ["1", True, float("nan"), float("inf"), [1], {}])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(BadValueError, match="weight is a number"):
        question.parse_number(value, "weight", "weight")
    assert question.parse_number(3, "weight") == 3.0 and question.parse_number(None, "weight") is None


def test_folder_and_time_are_read() -> None:
    found = question.parse_selection(None, None, "manuals/", "2026-11-29T10:00Z")
    assert found == Selection(folder="manuals", added_after=1_795_946_400.0)
    assert question.parse_selection([], [], "", "") == question.parse_selection() == Selection()
    today, week = question.parse_time("1"), question.parse_time("7")
    assert today is not None and week is not None and 0 <= time.time() - today < 90_000
    assert 6 * 86_400 - 7_300 < today - week < 6 * 86_400 + 7_300, "days of 23 and 25 hours too"
    assert question.parse_time("2026-11-29") == datetime(2026, 11, 29).astimezone().timestamp()


@pytest.mark.parametrize("value", ["yesterday", "2026", "2026-13-01", 17, "9999-12-31T23:59-14:00", ["2026-01-01"]])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(BadValueError, match="added_after is a date"):
        question.parse_time(value)
    with pytest.raises(BadValueError, match="folder is a text"):
        question.parse_selection(folder=3)


@pytest.mark.parametrize("value", ["a", 3, ["a", 3], {"a": 1}])
def test_what_is_no_list_of_texts_is_refused(value: object) -> None:
    with pytest.raises(BadValueError, match="files is a list of texts"):
        question.parse_texts(value, "files")


@pytest.mark.parametrize(
    ("value", "count"), [("12", 12), ("0", 1), ("999", 50), ("", 8), (None, 8), ("-3", 8), ("٣", 8), ("9" * 20, 8)]
)
def test_pages_to_show_are_within_the_limits(value: object, count: int) -> None:
    assert question.parse_top_k(value) == count


def test_the_vector_of_the_last_search_is_kept_as_bytes() -> None:
    vector = np.array([0.6, 0.8], np.float32)
    assert LastSearch(query=vector.tobytes()).vector.tolist() == vector.tolist()
    assert len(LastSearch().vector) == 0


@pytest.mark.parametrize(
    ("asked", "hidden", "title"),
    [
        (Question("a", minimum=0.9), 1, "No page reaches 0.9"),
        (Question("a", selection=Selection(("b",), ())), 0, "No page matches the filter"),
        (Question(like="0123456789abcdef"), 0, "There are no other pages"),
        (Question("a"), 0, "This collection has no pages yet"),
    ],
)
def test_nothing_found_is_explained(asked: Question, hidden: int, title: str) -> None:
    found = SearchResult([], [hit(score=0.41)] * hidden, hidden, hidden, np.zeros(2, np.float32), "f", {})
    told = question.explain_no_hits(found, asked)
    assert title in told and ("0.410" in told) == bool(hidden)
