"""The first results of a question, from words, while its server is waited for; then what the server finds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import orjson
import pytest

from serving.documents.page import Line
from serving.errors import BadValueError, NotReadyError
from serving.library.records import Selection
from tests.support.files import encoded
from tests.support.files import picture as gray
from tests.support.libraries import add, at, new
from tests.support.scripted import Scripted
from tests.support.servers import ScriptedWorker
from tests.support.waiting import until
from ui.core.service import Question, Service
from ui.search.question import LastSearch
from ui.search.tab import SearchEvents

WORDS = {"pump": "The pump needs a new valve", "tulip": "Tulips flower in April", "prices": "Price of a pump: 12.50"}
Updates = dict[Any, Any]


@pytest.fixture
def ids(service: Service) -> dict[str, str]:
    """Pages of the collection `c` with words, by the names of their files; no server has made them."""
    library, picture = service.library, encoded(gray((60, 60)))
    pages = {
        name: new(f"{name}.png", dimension=2560, picture=picture, thumbnail=picture, lines=(Line(text),))
        for name, text in WORDS.items()
    }
    added = {name: add(library, page, fingerprint=Scripted.fingerprint) for name, page in pages.items()}
    library.begin_indexing()
    until(lambda: library.words.count_missing() == 0, 20)
    return added


@pytest.fixture
def held(scripted: ScriptedWorker) -> Iterator[ScriptedWorker]:
    """The server answers nothing until its gate is set."""
    scripted.embedder.gate.clear()
    yield scripted
    scripted.embedder.gate.set()


def ask(events: SearchEvents, query: str, **more: Any) -> Iterator[Updates]:
    return iter(
        events.search(
            query, "c", "8", "scripted", None, 50, more.get("minimum", 0), [], more.get("types", []), "", "", "all"
        )
    )


def opened(page: str) -> gr.EventData:
    return cast(gr.EventData, SimpleNamespace(page=page, step="", number="", token="1"))


def told(events: SearchEvents, updates: Updates) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(updates[events.w.address])
    return found


def list_files(updates: Updates, events: SearchEvents) -> list[str]:
    return [hit.page.file for hit in updates[events.w.last].hits]


@pytest.mark.usefixtures("held")
def test_pages_with_the_words_come_first_then_the_server_s_ranking(
    events: SearchEvents, ids: dict[str, str], scripted: ScriptedWorker
) -> None:
    answers = ask(events, "new valve for the pump")
    first = next(answers)
    assert list_files(first, events) == ["pump.png", "prices.png"]
    assert "First results, from the text of the pages" in first[events.w.summary]
    assert "is still searching" in first[events.w.summary], "it may be awake, nobody knows"
    assert first[events.w.gallery].count("found by its text") == 4 and "score 0" not in first[events.w.gallery]
    assert f"/pages/{ids['pump']}.jpg" in first[events.w.detail] and WORDS["pump"] in first[events.w.gallery]
    scripted.embedder.gate.set()
    (final,) = answers
    assert len(final[events.w.last].hits) == 3 and final[events.w.last].query
    assert final[events.w.last].id == first[events.w.last].id
    assert f'data-search="{first[events.w.last].id}"' in first[events.w.gallery]
    assert f'data-search="{first[events.w.last].id}"' in final[events.w.gallery]
    assert told(events, first)["is_new"] and not told(events, final)["is_new"], "one entry of the history for both"


@pytest.mark.usefixtures("held")
def test_what_somebody_opens_meanwhile_stays(
    events: SearchEvents, ids: dict[str, str], scripted: ScriptedWorker
) -> None:
    answers = ask(events, "pump")
    first = next(answers)
    shown = events.answers.show_page(first[events.w.last], opened(ids["prices"]))
    assert f"/pages/{ids['prices']}.jpg" in shown
    scripted.embedder.gate.set()
    (final,) = answers
    assert events.w.detail not in final and told(events, final)["page"] == ids["prices"]
    assert f'data-page="{ids["prices"]}" aria-current="true"' in final[events.w.gallery]
    assert events.answers._opened == {}


@pytest.mark.usefixtures("held", "ids")
def test_if_the_server_never_comes_they_stay_with_the_reason(
    events: SearchEvents, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        until(lambda: began, 20)
        raise NotReadyError("the worker did not start: its log has the reason")

    began: list[bool] = []
    monkeypatch.setattr(service.targets.first.client, "embed_queries", fail)
    answers = ask(events, "a new pump")
    assert list_files(next(answers), events) == ["pump.png", "prices.png"]
    began.append(True)
    (failed,) = answers
    assert list(failed) == [events.w.summary] and events.answers._opened == {}
    assert "did not start" in failed[events.w.summary] and "data-again" in failed[events.w.summary]


@pytest.mark.usefixtures("held", "ids")
def test_where_words_find_nothing_nothing_is_shown_before_the_server_s(
    events: SearchEvents, scripted: ScriptedWorker
) -> None:
    answers = ask(events, "Wie warm?")
    threading.Timer(0.5, scripted.embedder.gate.set).start()
    (final,) = answers
    assert len(final[events.w.last].hits) == 3


@pytest.mark.usefixtures("ids")
def test_a_server_that_answers_at_once_is_shown_alone(events: SearchEvents) -> None:
    (only,) = ask(events, "pump")
    assert len(only[events.w.last].hits) == 3 and told(events, only)["is_new"]


@pytest.mark.usefixtures("held", "ids")
def test_who_leaves_before_the_answer_leaves_nothing_behind(events: SearchEvents, scripted: ScriptedWorker) -> None:
    answers = ask(events, "pump")
    next(answers)
    scripted.embedder.gate.set()
    answers.close()  # type: ignore[attr-defined]
    assert events.answers._opened == {}


@pytest.mark.usefixtures("held")
def test_a_link_has_first_results_as_well(events: SearchEvents, ids: dict[str, str], scripted: ScriptedWorker) -> None:
    names = ("collection", "top_k", "server", "query", "like", "page", "search")
    entry = {**dict.fromkeys(names, ""), "collection": "c", "query": "new pump", "page": ids["prices"]}
    event = cast(gr.EventData, SimpleNamespace(**entry, redraw=True, arriving=True))
    answers = iter(events.return_to(LastSearch(), "c", event))
    first = next(answers)
    assert list_files(first, events) == ["pump.png", "prices.png"] and events.w.listing in first
    assert told(events, first)["returned"] and told(events, first)["page"] == ids["prices"]
    scripted.embedder.gate.set()
    (final,) = answers
    assert events.w.listing not in final and events.w.detail not in final, "the page that the link names stays"
    assert not told(events, final)["returned"] and told(events, final)["page"] == ids["prices"]


def test_filters_hold_and_words_beside_an_image_count(service: Service, ids: dict[str, str]) -> None:
    key = at(service.library)
    assert service.find_first(Question(), key, 8) == []
    assert [hit.page.id for hit in service.find_first(Question("tulips", Path("a.png")), key, 8)] == [ids["tulip"]]
    only = Selection(files=("prices.png",))
    assert [hit.page.id for hit in service.find_first(Question("pump", selection=only), key, 8)] == [ids["prices"]]
    with pytest.raises(BadValueError, match="top_k is 1 to"):
        service.find_first(Question("pump"), key, 0)
