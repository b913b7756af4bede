"""Which buttons stand below the uploads of a collection, and what they do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from serving.client import EmbeddingClient
from serving.library.records import CollectionKey
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import at, made
from tests.support.servers import ScriptedWorker
from tests.support.uploads import run, upload
from tests.support.waiting import until
from ui.core.jobs import IngestJob, JobState, SkippedFile
from ui.core.service import Service
from ui.search.job_buttons import JobButtons
from ui.search.tab import SearchEvents
from ui.servers.target import Target

NOWHERE = Target(EmbeddingClient("http://127.0.0.1:9"))


def make_job(state: JobState, kept: bool = False) -> IngestJob:
    job = IngestJob(CollectionKey("c"), [], NOWHERE, state=state, skipped=[SkippedFile("a.png", "no")])
    if state in ("done", "failed", "cancelled"):
        job.finished.set()
    job.keep_until = time.time() + 60 if kept else 0.0
    return job


@pytest.mark.parametrize(
    ("jobs", "shown"),
    [
        ([], {}),
        ([make_job("running"), make_job("paused")], {"pause": "Pause", "cancel": "Cancel"}),
        ([make_job("paused"), make_job("done")], {"pause": "Resume", "cancel": "Cancel"}),
        ([make_job("done", kept=True)] * 2, {"retry": "Try the 2 skipped again", "dismiss": "Dismiss"}),
        ([make_job("failed", kept=True)], {"retry": "Try again", "dismiss": "Dismiss"}),
        ([make_job("cancelled")], {}),
    ],
)
def test_there_are_those_that_can_be_used(blocks: gr.Blocks, jobs: list[IngestJob], shown: dict[str, str]) -> None:
    buttons = JobButtons()
    updates = buttons.show(jobs)
    seen = {
        widget.elem_id: update.get("value", widget.value) for widget, update in updates.items() if update["visible"]
    }
    assert seen == shown and set(updates) == set(buttons.widgets) and len(blocks.blocks) > 4


def shown(updates: dict[Any, Any], widget: Any) -> Any:
    return updates[widget]["visible"]


def test_pause_resume_and_cancel_act_on_all_uploads_of_the_collection(
    events: SearchEvents, service: Service, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    scripted.embedder.gate.clear()
    files = [upload(tmp_path, f"{name}.pdf", pdf([[name, str(n)] for n in range(20)])) for name in "ab"]
    jobs = [service.ingestor.start(made(service.library), [file]) for file in files]
    until(lambda: all(job.total == 20 for job in jobs))
    events.jobs.pause_or_resume("c", "Pause")
    assert [job.state for job in jobs] == ["paused"] * 2
    events.jobs.pause_or_resume("c", "Resume")
    assert [job.state for job in jobs] == ["running"] * 2
    events.jobs.cancel("c")
    scripted.embedder.gate.set()
    assert all(job.finished.wait(20) and job.state == "cancelled" for job in jobs)


def test_what_was_skipped_is_tried_again_or_dismissed(events: SearchEvents, service: Service, tmp_path: Path) -> None:
    job = run(service, upload(tmp_path, "a.png", encoded(picture())), upload(tmp_path, "b.png", b"no picture"))
    updates = events.show_collection("c")
    assert shown(updates, events.w.jobs.retry) and "to try again" in updates[events.w.progress]
    events.retry_jobs("c")
    again = service.ingestor.recent_jobs(at(service.library))[-1]
    assert again is not job and again.finished.wait(20) and again.can_retry and not job.can_retry
    updates = events.dismiss_jobs("c")
    assert not shown(updates, events.w.jobs.retry) and updates[events.w.progress] == ""
    assert service.ingestor.recent_jobs(at(service.library)) == [] == service.library.jobs.list_all()


def test_an_upload_that_is_refused_says_why(events: SearchEvents, service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.png", encoded(picture())))
    service.ingestor.stop()
    (refused,) = [updates[events.w.summary] for updates in events.samples.add("scripted")]
    assert "The sample pages were not added" in refused and "the page is stopping" in refused
