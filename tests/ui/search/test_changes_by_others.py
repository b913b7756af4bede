"""What a view of the page gets when others have changed its collection. In a browser: tests/browser/test_changes.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.support.files import encoded, picture
from tests.support.libraries import at
from tests.support.page_updates import settle
from tests.support.servers import ScriptedWorker
from tests.support.uploads import upload
from tests.support.waiting import until
from ui.core.service import Service
from ui.search.question import LastSearch
from ui.search.tab import SearchEvents

NOTHING = LastSearch()


def changed(events: SearchEvents, key: str, last: LastSearch = NOTHING, collection: str = "c") -> dict[Any, Any]:
    return events.others.show(last, collection, "8", "scripted", gr.EventData(None, {"key": key}))


@pytest.mark.usefixtures("ids")
def test_the_list_is_as_it_is_now_and_what_is_typed_stays(events: SearchEvents, service: Service) -> None:
    key = at(service.library)
    events.show_collection("c")
    service.library.delete_file(key, service.library.catalogue.list_files(key)[0].sha256)
    updates = changed(events, key)
    assert "2 pages from 2 files" in updates[events.w.listing]
    assert f'data-version="{service.library.changes.version(key)}"' in updates[events.w.listing]
    assert "value" not in updates[events.w.collection] and ("c", "c") in updates[events.w.collection]["choices"]
    assert events.w.filters.files in updates and events.w.summary not in updates and events.w.gallery not in updates
    assert events.w.progress in updates
    made = service.library.create_collection("d").key
    events.show_collection("d")
    assert events.w.progress not in changed(events, made, collection="d"), "no uploads: what stands there is the view's"


def test_results_of_which_a_page_is_gone_are_ranked_again(
    events: SearchEvents, service: Service, ids: list[str], scripted: ScriptedWorker
) -> None:
    key = at(service.library)
    events.show_collection("c")
    found = settle(events.search("words", "c", "8", "scripted", None, 50, 0, [], [], "", "", "all"))
    last, calls = found[events.w.last], len(scripted.embedder.calls)
    assert events.w.gallery not in changed(events, key, last), "all of them are there"
    service.library.delete_pages(key, [ids[1]])
    updates = changed(events, key, last)
    assert {hit.page.id for hit in updates[events.w.last].hits} == {ids[0], ids[2]}
    assert "<b>2 pages</b> of 2 in" in updates[events.w.summary] and len(scripted.embedder.calls) == calls


@pytest.mark.usefixtures("ids")
def test_another_name_is_followed_and_a_deletion_is_told(events: SearchEvents, service: Service) -> None:
    key = at(service.library)
    events.show_collection("c")
    service.library.rename_collection(key, "d")
    assert changed(events, key)[events.w.collection]["value"] == "d"
    service.library.delete_collection(key)
    updates = changed(events, key, collection="d")
    assert "This collection was deleted" in updates[events.w.summary]
    assert updates[events.w.collection]["value"] == "my-pages" and updates[events.w.gallery] == ""
    assert changed(events, key, collection="d")[events.w.summary] == gr.skip(), "it shows another one by now"


@pytest.mark.usefixtures("ids")
def test_who_deletes_a_collection_is_not_told_of_it(events: SearchEvents, service: Service) -> None:
    key, told = at(service.library), list[object]()
    events.show_collection("c")
    real = service.delete_collection

    def delete(gone: Any) -> int:
        pages = real(gone)
        told.append(changed(events, key)[events.w.summary])  # the browser asks before it has the answer
        return pages

    service.delete_collection = delete  # type: ignore[method-assign]
    updates = events.delete_files("c", gr.EventData(None, {"all": True, "sort": "", "find": "", "page": "1"}))
    assert told == [gr.skip()] and updates[events.w.summary] == ""


def test_a_collection_that_others_make_appears(events: SearchEvents, service: Service, tmp_path: Path) -> None:
    events.show_collection("c")
    before = service.library.changes.version("")
    key = service.create_collection("c").key
    assert service.library.changes.version("") != before
    service.ingestor.start(key, [upload(tmp_path, "a.png", encoded(picture()))]).finished.wait(30)
    assert "1 page from 1 file" in changed(events, "")[events.w.listing]


def test_choices_stay_while_pages_are_added(
    events: SearchEvents, service: Service, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    key = service.create_collection("c").key
    events.show_collection("c")
    scripted.embedder.gate.clear()
    job = service.ingestor.start(key, [upload(tmp_path, "a.png", encoded(picture()))])
    until(lambda: job.total == 1, 30)
    updates = changed(events, key)
    assert "Page 1 of 1" in updates[events.w.progress] and events.w.filters.files not in updates
    assert updates[events.w.jobs.pause]["visible"] is True
    scripted.embedder.gate.set()
    assert job.finished.wait(30)
    assert events.w.filters.files in changed(events, key)
