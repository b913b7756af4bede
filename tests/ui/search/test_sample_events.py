"""The button that loads the sample pages: at once where their vectors fit, else by an upload; and the line below it."""

from __future__ import annotations

import pytest

from serving.embedders.builtin.embedder import BuiltinEmbedder, compute_fingerprint
from tests.support.libraries import at
from tests.support.servers import ScriptedWorker
from ui.core.sample_pages import SAMPLE_PAGES
from ui.core.service import Service
from ui.search.tab import SearchEvents


@pytest.fixture
def builtin(scripted: ScriptedWorker, monkeypatch: pytest.MonkeyPatch) -> ScriptedWorker:
    monkeypatch.setattr(scripted.embedder, "fingerprint", compute_fingerprint())
    monkeypatch.setattr(scripted.embedder, "dimension", BuiltinEmbedder.dimension)
    monkeypatch.setattr(scripted.embedder, "dimensions", BuiltinEmbedder.dimensions)
    return scripted


def test_pages_that_ship_with_their_vectors_are_there_at_once(
    events: SearchEvents, service: Service, builtin: ScriptedWorker
) -> None:
    *steps, last = events.samples.add("scripted")
    assert "Loading the sample pages" in steps[0][events.w.progress] and builtin.embedder.calls == []
    assert f"{SAMPLE_PAGES} pages added in" in last[events.w.progress]
    assert "shipped with Dormouse" in last[events.w.shipped] and "32 pages from 26 files" in last[events.w.listing]
    assert service.ingestor.recent_jobs(at(service.library, "samples")) == []
    *_, again = events.samples.add("scripted")
    assert "The sample pages are all here" in again[events.w.progress]
    assert "shipped with Dormouse" in events.show_collection("samples")[events.w.shipped]
    assert events.show_collection("my-pages")[events.w.shipped] == ""


@pytest.mark.usefixtures("builtin")
def test_the_line_has_them_read_again(events: SearchEvents, service: Service) -> None:
    list(events.samples.add("scripted"))
    updates = events.samples.read_again("samples", "scripted")
    (job,) = service.ingestor.recent_jobs(at(service.library, "samples"))
    assert updates[events.w.shipped] == "" and job.finished.wait(60) and len(job.added) == SAMPLE_PAGES
    list(events.samples.add("scripted"))
    service.ingestor.stop()
    refused = events.samples.read_again("samples", "scripted")
    assert "not read again" in refused[events.w.summary] and "the page is stopping" in refused[events.w.summary]
    assert "32 pages" in events.show_collection("samples")[events.w.listing]


def test_another_server_gets_an_upload(events: SearchEvents, service: Service, scripted: ScriptedWorker) -> None:
    (updates,) = events.samples.add("scripted")
    (job,) = service.ingestor.recent_jobs(at(service.library, "samples"))
    assert updates[events.w.shipped] == "" and job.finished.wait(60) and len(job.added) == SAMPLE_PAGES
    assert sum(map(len, scripted.embedder.calls)) == SAMPLE_PAGES


def test_a_server_of_nobody_is_told(events: SearchEvents) -> None:
    (updates,) = events.samples.add("nobody")
    assert "there is no server with that name" in updates[events.w.summary]
