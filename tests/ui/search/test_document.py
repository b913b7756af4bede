"""Pages of a collection that are opened and turned, against a real library. No model is asked."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest

from serving.documents.page import Line
from serving.errors import NotFoundError
from serving.library.records import CollectionKey
from tests.support.libraries import UNKNOWN, add, at, new
from tests.support.scripted import unit
from ui.core.service import Question, Service
from ui.search import document
from ui.search.document import open_page, parse_whole, turn_to
from ui.search.question import LastSearch

LONG = 260
"""More pages than are compared by their lines."""
QUESTION = unit("where is the boiler", 64)
ANSWERS = (17, 31)
MISSING = (40, 41)


def near(number: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A vector nearer to the question on the pages that answer than elsewhere."""
    vector = unit(f"page {number}", 64) + (4 if number in ANSWERS else 1) * QUESTION
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


@pytest.fixture
def ids(service: Service) -> dict[int, str]:
    return fill(service, 45)


def fill(service: Service, pages: int) -> dict[int, str]:
    """Add a manual, two of whose pages are not there, and a file of the same name. Return its pages by number."""
    found = {}
    for number in range(1, pages + 1):
        lines = (Line(f"Page {number}"), Line(f"text {number}", (0.1, 0.1, 0.9, 0.2)))
        rows = np.stack([unit("title", 64), near(number)])
        content = {"pages": pages, "sha256": "manual", "vector": near(number), "lines": lines, "line_vectors": rows}
        if number not in MISSING:
            found[number] = add(service.library, new("manual.pdf", number, **content))
    add(service.library, new("manual.pdf", 18, pages=pages, sha256="another", vector=QUESTION))
    return found


def asked(service: Service, key: CollectionKey, **question: object) -> LastSearch:
    """A search whose hits are the best four pages."""
    given = Question("where is the boiler", **question)  # type: ignore[arg-type]
    found = service.rank(given, QUESTION, "f1", key, 4)
    return LastSearch(given, tuple(found.hits), QUESTION.tobytes(), "f1", collection=key)


def wanted(page: str, step: object = "", number: object = "", asked_by: object = "t") -> gr.EventData:
    return gr.EventData(None, {"page": page, "step": step, "number": number, "token": asked_by})


def test_a_page_of_a_long_document_is_opened_in_its_place(service: Service, ids: dict[int, str]) -> None:
    last = asked(service, at(service.library))
    found = open_page(service, last, ids[17])
    assert found.hit is not None and found.hit.rank in (2, 3)
    assert [hit.page.page for hit in found.best] in ([17, 31], [31, 17]), "not the file of the same name"
    assert all(hit.line == Line(f"text {hit.page.page}", (0.1, 0.1, 0.9, 0.2)) for hit in found.best)
    assert (found.has_previous, found.has_next, len(found.numbers)) == (True, True, 43)
    assert len(found.lines) == 2


def test_any_page_has_its_line_marked_also_beyond_the_nearest_ones(service: Service) -> None:
    ids = fill(service, LONG)
    last = asked(service, at(service.library))
    for number in (1, 100, 180, LONG):
        found = open_page(service, last, ids[number])
        assert found.hit is None and found.line == Line(f"text {number}", (0.1, 0.1, 0.9, 0.2))
    unasked = open_page(service, LastSearch(collection=at(service.library)), ids[17])
    assert unasked.line is None and unasked.best == () and unasked.hit is None


def test_pages_are_turned_within_the_document(service: Service, ids: dict[int, str]) -> None:
    last = asked(service, at(service.library))
    on = turn_to(service, last, wanted(ids[39], step=1))
    assert (on.page.id, on.told, on.token) == (ids[42], "Pages 40 to 41 are not in the collection.", "t")
    assert turn_to(service, last, wanted(ids[42], step=-1)).page.page == 39
    assert turn_to(service, last, wanted(ids[1], step=-1)).page.page == 1
    assert turn_to(service, last, wanted(ids[1], number=44)).page.page == 44
    assert turn_to(service, last, wanted(ids[1], number="40")).told == "Page 40 is not in the collection."
    assert turn_to(service, last, wanted(ids[5], step=["x"], asked_by="x" * 99)).token == "x" * document.TOKEN_CHARS


def test_a_page_of_another_collection_cannot_be_opened(service: Service, ids: dict[int, str]) -> None:
    """Also with a search of one's own: what was searched decides."""
    stranger = add(service.library, new("secret.pdf", 1), "others")
    last = asked(service, at(service.library))
    for page in (stranger, "0" * 16, "", "../secret"):
        assert not document.has_page(service, at(service.library), page)
        for event in (wanted(page), wanted(page, step=1), wanted(page, number=2)):
            with pytest.raises(NotFoundError):
                turn_to(service, last, event)
    assert document.has_page(service, at(service.library), ids[1])
    for key in (UNKNOWN, at(service.library, "others"), LastSearch().collection):
        assert not document.has_page(service, key, ids[1])
        with pytest.raises(NotFoundError):
            open_page(service, LastSearch(collection=key), ids[1])


def test_a_page_whose_picture_is_gone_is_not_opened(service: Service, ids: dict[int, str]) -> None:
    service.library.pictures.locate_picture(ids[3]).unlink()
    with pytest.raises(NotFoundError):
        open_page(service, asked(service, at(service.library)), ids[3])


def test_pages_below_the_minimum_and_the_page_asked_with_are_not_listed(service: Service, ids: dict[int, str]) -> None:
    key = at(service.library)
    assert open_page(service, asked(service, key, minimum=0.999), ids[17]).best == ()
    like = LastSearch(Question(like=ids[17]), (), near(17).tobytes(), "f1", collection=key)
    assert ids[17] not in [hit.page.id for hit in open_page(service, like, ids[17]).best]
    other = LastSearch(Question("q"), (), QUESTION.tobytes(), "f2", collection=key)
    assert open_page(service, other, ids[17]).best == (), "vectors of another embedder are not compared"


@pytest.mark.parametrize(
    ("value", "found"), [(1, 1), ("-3", -3), ("", None), ("x", None), ("9" * 10, None), (1.5, None)]
)
def test_whole_numbers(value: object, found: int | None) -> None:
    assert parse_whole(value) == found
