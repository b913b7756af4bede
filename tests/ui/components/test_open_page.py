"""A page in its document, without a library."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serving.documents.page import Line
from serving.library.records import Hit
from tests.support.hits import NASTY, hit, opened
from ui.components.open_page import (
    MOST_BEST,
    OpenPage,
    find_number,
    place_lines,
    select_best,
    turn_pages,
)
from ui.components.results import render_detail

NUMBERS = (2, 3, 7, 8, 20)


@pytest.mark.parametrize(
    ("at", "step", "found", "told"),
    [
        (2, 1, 3, ""), (3, -1, 2, ""), (3, 1, 7, "Pages 4 to 6 are not in the collection."),
        (20, -1, 8, "Pages 9 to 19 are not in the collection."), (2, -1, 2, ""), (20, 1, 20, ""),
        (2, 3, 8, "Pages 4 to 6 are not in the collection."),
        (2, 99, 20, "14 pages in between are not in the collection."),
        (7, 0, 7, ""),
    ],
)  # fmt: skip
def test_turning_steps_over_pages_that_are_not_there_and_says_so(at: int, step: int, found: int, told: str) -> None:
    assert turn_pages(NUMBERS, at, step) == (found, told)


@pytest.mark.parametrize(
    ("wanted", "found", "told"),
    [
        (7, 7, ""), (4, 7, "Page 4 is not in the collection."), (21, 20, "Page 21 is not in the collection."),
        *((beyond, found, "This document has pages 1 to 30.") for beyond, found in ((0, 2), (31, 20), (-5, 2))),
    ],
)  # fmt: skip
def test_a_number_finds_its_page_or_the_next_one(wanted: int, found: int, told: str) -> None:
    assert find_number(NUMBERS, wanted, 30) == (found, told)


def ranked(*scores: float) -> list[Hit]:
    return [hit(rank, score) for rank, score in enumerate(scores, 1)]


def test_only_pages_that_score_near_the_best_are_listed() -> None:
    found = ranked(0.9, 0.85, 0.8, 0.6, 0.6, 0.6, 0.5)
    assert [page.score for page in select_best(found)] == [0.9, 0.85, 0.8]
    assert [page.score for page in select_best(ranked(0.9, 0.89))] == [0.9]
    assert len(select_best(ranked(*[0.5] * 40))) == MOST_BEST
    assert select_best([]) == ()


def shown(number: int = 7, **values: object) -> OpenPage:
    page = replace(opened(page=number, pages=30), hit=None, numbers=NUMBERS)
    return replace(page, **values)  # type: ignore[arg-type]


def test_a_page_that_is_no_hit_has_no_rank_and_its_place_in_the_document() -> None:
    html = render_detail(shown())
    assert "#1" not in html and "score" not in html and "page 7 of 30" in html
    assert 'value="7"' in html and html.count('aria-disabled="false"') == 2
    assert 'data-step="-1" aria-disabled="true"' in render_detail(shown(2))
    assert 'data-step="1" aria-disabled="true"' in render_detail(shown(20))
    assert "data-step" not in render_detail(opened(page=1, pages=1)) and "data-zoom" in render_detail(opened())
    assert "In this document" not in html


def test_what_a_user_wrote_is_no_markup() -> None:
    line = Line(NASTY, (0.1, 0.2, 0.5, 0.25))
    best = (hit(line=line), hit(2, page=9))
    html = render_detail(shown(lines=(line,), best=best, told=NASTY, token=NASTY))
    assert "<img src=x" not in html and html.count("Page 9</b>") == 1
    assert html.count("&lt;img src=x") >= 6


def test_lines_with_boxes_are_a_layer_of_text_in_reading_order() -> None:
    lines = (
        Line("one", (0.1, 0.2, 0.5, 0.25)),
        Line("no box"),
        Line(" ", (0, 0, 1, 1)),
        Line("縦書き", (0.5, 0, 0.55, 1)),
    )
    placed = place_lines(shown(lines=lines))
    assert [(line.text, line.is_tall) for line in placed] == [("one", False), ("縦書き", True)]
    assert placed[0].style == "--x:0.10000;--y:0.20000;--w:0.40000;--h:0.05000"
    assert not place_lines(shown(lines=(Line("I", (0.5, 0, 0.51, 0.5)),)))[0].is_tall, "a single letter may be tall"
    assert '<div class="line is-tall"' in render_detail(shown(lines=lines))
