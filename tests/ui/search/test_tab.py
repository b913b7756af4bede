"""The events of the Search tab, called as Gradio calls them, against a real worker with a double of an embedder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import orjson
import pytest
from gradio.context import LocalContext

from tests.support.libraries import UNKNOWN, at
from tests.support.page_updates import settle
from tests.support.servers import ScriptedWorker
from ui.core.service import Service
from ui.search.question import LastSearch
from ui.search.tab import SearchEvents

SKIP = gr.skip()


def search(events: SearchEvents, query: str = "words", weight: object = 50, **more: Any) -> dict[Any, Any]:
    updates = events.search(
        query, more.get("collection", "c"), more.get("top_k", "8"), "scripted", None, weight, more.get("minimum", 0),
        more.get("files", []), more.get("types", []), more.get("folder", ""), more.get("added", ""), "all",
    )  # fmt: skip
    return settle(updates)


def return_to(events: SearchEvents, last: LastSearch, collection: str, event: gr.EventData) -> dict[Any, Any]:
    return settle(events.return_to(last, collection, event))


@contextmanager
def opened(**query: str) -> Iterator[gr.Request]:
    """A page view at the address with this query."""
    request = gr.Request(query_params=query, session_hash="s")
    token = LocalContext.request.set(request)
    try:
        yield request
    finally:
        LocalContext.request.reset(token)


@pytest.mark.usefixtures("ids")
def test_a_search_fills_summary_cards_and_the_first_page(events: SearchEvents) -> None:
    updates = search(events)
    assert "<b>3 pages</b> of 3 in “c”" in updates[events.w.summary]
    assert updates[events.w.gallery].count('class="hit"') == 3
    last = updates[events.w.last]
    assert f"/pages/{last.hits[0].page.id}.jpg" in updates[events.w.detail] and last.question.text == "words"
    assert len(search(events, top_k="2")[events.w.last].hits) == 2
    assert "of 1 that pass the filter, of 3" in search(events, files=["a.png"])[events.w.summary]
    assert "of 3 that pass the filter, of 3" in search(events, added="1")[events.w.summary]


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"query": "  "}, "Type a question first"),
        ({"weight": "much"}, "the weight of the image is a number"),
        ({"collection": UNKNOWN}, "no such collection"),
        ({"types": ["pdf"]}, "No page matches the filter"),
        ({"files": ["other.png"]}, "take it out of the filter"),
        ({"folder": "manuals"}, "no folder &#39;manuals&#39;"),
        ({"added": "2999-01-01"}, "No page matches the filter"),
        ({"added": "soon"}, "added_after is a date"),
        ({"minimum": 0.999}, "No page reaches 0.999"),
        ({"collection": "empty"}, "This collection has no pages yet"),
    ],
)
def test_where_nothing_is_found_it_says_why(events: SearchEvents, asked: dict[str, Any], words: str) -> None:
    updates = search(events, **asked)
    assert words in updates[events.w.summary] and updates[events.w.gallery] == updates[events.w.detail] == ""


@pytest.mark.usefixtures("ids")
def test_fewer_dimensions_rank_again_without_a_call(events: SearchEvents, scripted: ScriptedWorker) -> None:
    last = search(events)[events.w.last]
    calls = len(scripted.embedder.calls)
    updates = events.rank_again(last, "c", "8", "scripted", [], [], "", "", "768")
    assert "compared in 768 dimensions" in updates[events.w.summary] and len(scripted.embedder.calls) == calls
    again = updates[events.w.last]
    assert events.rank_again(again, "c", "8", "scripted", [], [], "", "", "768") == {events.w.summary: SKIP}
    assert events.rank_again(LastSearch(), "c", "8", "scripted", [], [], "", "", "768") == {events.w.summary: SKIP}
    failed = events.rank_again(last, "c", "8", "scripted", 3, [], "", "", "all")
    assert "files is a list" in failed[events.w.summary] and failed[events.w.last].query == last.query


def turned(page: str, step: object = "", number: object = "") -> gr.EventData:
    """A page that is asked for, as detail.js does."""
    return gr.EventData(None, {"page": page, "step": step, "number": number, "token": "0.5"})


def test_a_click_shows_a_page_until_it_is_gone(events: SearchEvents, ids: list[str]) -> None:
    last = search(events)[events.w.last]
    assert f"/pages/{ids[1]}.jpg" in events.answers.show_page(last, turned(ids[1]))
    updates = list(events.use_button(last, "c", "8", "scripted", gr.EventData(None, {"page": ids[1], "like": False})))
    assert "2 pages from 2 files" in updates[0][events.w.listing] and "of 2 in" in updates[1][events.w.summary]
    assert "This page is gone" in events.answers.show_page(last, turned(ids[1]))


def test_more_like_a_page_leaves_it_out(events: SearchEvents, ids: list[str], scripted: ScriptedWorker) -> None:
    last = search(events)[events.w.last]
    calls = len(scripted.embedder.calls)
    like = gr.EventData(None, {"page": ids[0], "like": True})
    (updates,) = events.use_button(last, "c", "8", "scripted", like)
    assert "2 pages like “a.png”" in updates[events.w.summary].replace("<b>", "").replace("</b>", "")
    assert ids[0] not in {hit.page.id for hit in updates[events.w.last].hits}
    assert len(scripted.embedder.calls) == calls


def test_a_file_and_a_whole_collection_are_deleted(events: SearchEvents, service: Service, ids: list[str]) -> None:
    assert len(ids) == 3
    sha256 = service.library.catalogue.list_files(at(service.library))[0].sha256
    updates = events.delete_files("c", click(file=sha256))
    assert "2 pages from 2 files" in updates[events.w.listing] and updates[events.w.summary] == ""
    updates = events.delete_files("c", click())
    assert "2 pages from 2 files" in updates[events.w.listing], "nothing was named"
    updates = events.delete_files("c", click(all=True))
    assert "No pages in this collection yet" in updates[events.w.listing]
    failed = events.delete_files(UNKNOWN, click(all=True))
    assert "The deletion was not saved" in failed[events.w.summary]


@pytest.mark.usefixtures("ids")
def test_files_that_were_found_are_deleted_unless_they_are_others_by_now(
    events: SearchEvents, service: Service
) -> None:
    names = [file.name for file in service.library.catalogue.list_files(at(service.library))]
    changed = events.delete_files("c", click(found=2, find=names[0]))
    assert "look at the list again" in changed[events.w.summary] and "3 pages from" in changed[events.w.listing]
    updates = events.delete_files("c", click(found=1, find=names[0], sort="name"))
    assert updates[events.w.summary] == "" and 'data-by="name"' in updates[events.w.listing]
    assert [file.name for file in service.library.catalogue.list_files(at(service.library))] == names[1:]


@pytest.mark.usefixtures("ids")
def test_the_list_is_turned_without_the_rest_of_the_page(events: SearchEvents) -> None:
    listed = events.listed.turn("c", click(sort="newest", page=3, ask=4))
    assert 'data-asked="4"' in listed and 'data-page="1"' in listed and "3 pages from 3 files" in listed
    assert "cannot be listed" in events.listed.turn(UNKNOWN, click())


def click(**given: object) -> gr.EventData:
    """An event of the list of files, as the browser sends it."""
    return gr.EventData(None, {"file": "", "found": 0, "all": False, "sort": "oldest", "find": "", "page": 1, **given})


@pytest.mark.usefixtures("ids")
def test_another_collection_is_shown_without_what_was_found(events: SearchEvents) -> None:
    updates = events.switch_collection("c")
    assert "3 pages from 3 files" in updates[events.w.listing] and updates[events.w.gallery] == ""
    assert events.switch_collection("c") == {events.w.summary: SKIP}, "a list sends its choice when it is only left"
    assert events.switch_collection(None) == {events.w.summary: SKIP}
    updates = events.switch_collection("x" * 200)
    assert "This name cannot be used" in updates[events.w.summary]
    assert updates[events.w.collection]["value"] == "my-pages"


@pytest.mark.usefixtures("ids")
def test_the_address_says_what_is_opened(events: SearchEvents) -> None:
    with opened(c="c", q="a question", k="999") as request:
        updates = events.open_page(request)
        assert (updates[events.w.query], updates[events.w.top_k]) == ("a question", "50")
        assert "3 pages from 3 files" in updates[events.w.listing] and events.w.summary not in updates
    with opened() as request:
        assert events.open_page(request)[events.w.collection]["value"] == "c", "the one last added to"
    with opened(c=UNKNOWN) as request:
        assert "This collection does not exist" in events.open_page(request)[events.w.summary]


def wanted(**entry: Any) -> gr.EventData:
    """An entry of the browser's history that is to be shown, as address.js sends it."""
    usual = {"collection": "c", "top_k": "8", "server": "", "query": "", "like": "", "page": "", "search": ""}
    return gr.EventData(None, {**usual, "redraw": True, "arriving": False, **entry})


def told(events: SearchEvents, updates: dict[Any, Any]) -> dict[str, Any]:
    """What the browser is told to put into the address."""
    entry: dict[str, Any] = orjson.loads(updates[events.w.address])
    return entry


@pytest.mark.usefixtures("ids")
def test_a_search_is_told_to_the_address_and_found_again_without_a_model(
    events: SearchEvents, scripted: ScriptedWorker
) -> None:
    first = search(events, "a <b> question", files=["a.png"])
    entry = told(events, first)
    assert (entry["collection"], entry["top_k"], entry["query"]) == ("c", "8", "a <b> question")
    assert entry["is_new"] and entry["search"] == first[events.w.last].id and "<" not in first[events.w.address]
    second = search(events, "another", weight=30)
    calls = len(scripted.embedder.calls)
    back = return_to(events, second[events.w.last], "c", wanted(query="a <b> question", search=entry["search"]))
    assert back[events.w.last].question.text == back[events.w.query] == "a <b> question"
    assert "of 1 that pass the filter" in back[events.w.summary]
    assert back[events.w.filters.files]["value"] == ["a.png"] and back[events.w.weight] == 50
    again = told(events, back)
    assert (again["search"], again["returned"], again["is_new"]) == (entry["search"], True, False)
    arrived = return_to(events, LastSearch(), "c", wanted(search=told(events, second)["search"], arriving=True))
    assert arrived[events.w.weight] == 30 and len(scripted.embedder.calls) == calls


@pytest.mark.usefixtures("ids")
def test_a_search_that_is_not_kept_is_asked_once(events: SearchEvents, scripted: ScriptedWorker) -> None:
    calls = len(scripted.embedder.calls)
    found = return_to(events, LastSearch(), "c", wanted(query="from a link", search="unknown", arriving=True))
    assert found[events.w.last].question.text == "from a link" and events.w.query not in found
    assert events.w.weight not in found, "what is set while the page opens stays"
    assert len(told(events, found)["search"]) == 32, "the browser chooses no ids"
    assert len(scripted.embedder.calls) == calls + 1
    nothing = return_to(events, found[events.w.last], "c", wanted())
    assert nothing[events.w.gallery] == "" and nothing[events.w.query] == "" and told(events, nothing)["search"] == ""
    gone = return_to(events, found[events.w.last], "c", wanted(collection=UNKNOWN))
    assert "This collection cannot be shown" in gone[events.w.summary]


def test_a_turned_page_is_shown_again_though_it_is_no_hit(events: SearchEvents, ids: list[str]) -> None:
    last = search(events, top_k="1")[events.w.last]
    page = next(page for page in ids if page != last.hits[0].page.id)
    shown = return_to(events, last, "c", wanted(search=last.id, page=page, redraw=False))
    assert f"/pages/{page}.jpg" in shown[events.w.detail] and told(events, shown)["page"] == page
    whole = return_to(events, LastSearch(), "c", wanted(search=last.id, page=page, top_k="1"))
    assert f"/pages/{page}.jpg" in whole[events.w.detail] and told(events, whole)["page"] == page
    assert 'aria-current="true"' not in whole[events.w.gallery]
    linked = return_to(events, LastSearch(), "c", wanted(query="from a link", page=page, top_k="1"))
    assert f"/pages/{page}.jpg" in linked[events.w.detail] and told(events, linked)["page"] == page
    alone = return_to(events, LastSearch(), "c", wanted(page=page))
    assert f"/pages/{page}.jpg" in alone[events.w.detail] and alone[events.w.gallery] == ""
    assert "nearest to your question" not in alone[events.w.detail] and told(events, alone)["page"] == page
    turned_on = events.answers.show_page(alone[events.w.last], turned(page))
    assert f"/pages/{page}.jpg" in turned_on
    other = return_to(events, LastSearch(), "d", wanted(collection="d", page=page))
    assert other[events.w.detail] == "" and told(events, other)["page"] == ""


def test_the_address_names_the_page_that_was_opened(events: SearchEvents, ids: list[str]) -> None:
    last = search(events)[events.w.last]
    page = last.hits[2].page.id
    shown = return_to(events, last, "c", wanted(search=last.id, page=page, redraw=False))
    assert f"/pages/{page}.jpg" in shown[events.w.detail] and events.w.gallery not in shown
    assert told(events, shown)["page"] == page
    whole = return_to(events, last, "c", wanted(search=last.id, page=page))
    assert f"/pages/{page}.jpg" in whole[events.w.detail] and told(events, whole)["page"] == page
    assert f'data-page="{page}" aria-current="true"' in whole[events.w.gallery]
    other = return_to(events, last, "c", wanted(search=last.id, page="0" * 16))
    assert told(events, other)["page"] == "" and f"/pages/{last.hits[0].page.id}.jpg" in other[events.w.detail]
    like = return_to(events, last, "c", wanted(like=ids[0]))
    assert "2 pages like" in like[events.w.summary].replace("<b>", "").replace("</b>", "")


@pytest.mark.parametrize("entry", [{"page": 3}, {"query": ["q"]}, {"top_k": "many", "server": "nobody"}])
@pytest.mark.usefixtures("ids")
def test_an_entry_that_no_page_sends_harms_nothing(events: SearchEvents, entry: dict[str, Any]) -> None:
    assert told(events, return_to(events, LastSearch(), "c", wanted(**entry)))["search"] == "" or entry.get("query")


def test_an_empty_collection_greets(events: SearchEvents) -> None:
    with opened() as request:
        assert "Got it" in events.open_page(request)[events.w.summary]


@pytest.mark.usefixtures("ids")
def test_whoever_comes_later_sees_how_a_job_ended(events: SearchEvents) -> None:
    *_, ended = events.follow_job("c")
    assert "3 pages added" in ended[events.w.progress] and "3 pages from 3 files" in ended[events.w.listing]
    assert list(events.follow_job("never added to")) == list(events.follow_job(UNKNOWN)) == [SKIP]


@pytest.mark.usefixtures("ids")
def test_a_server_that_cannot_rank_the_collection_is_told(events: SearchEvents, service: Service) -> None:
    assert events.check_server("c", "scripted") == events.check_server("", "scripted") == SKIP
    assert "there is no server with that name" in events.check_server("c", "other")
    assert "cannot search this collection" in events.check_server(UNKNOWN, "scripted")
