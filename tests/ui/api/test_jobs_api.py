"""The calls that show, pause, cancel and repeat uploads, against a real worker with the scripted embedder."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import NotFoundError
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import made
from tests.support.servers import ScriptedWorker
from tests.support.uploads import upload
from tests.support.waiting import until
from ui.api.jobs_api import JobsApi
from ui.core.service import Service


def test_an_upload_is_paused_resumed_and_tried_again(
    service: Service, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    api = JobsApi(service)
    assert api.jobs("c") == {"jobs": []}
    scripted.embedder.gate.clear()
    files = [upload(tmp_path, "a.pdf", pdf([["fine"], ["unreadable"]])), upload(tmp_path, "b.png", encoded(picture()))]
    job = service.ingestor.start(made(service.library), files)
    until(lambda: job.total == 3)
    assert api.pause_job(job.id)["state"] == "paused"
    assert [found["job"] for found in api.jobs("c")["jobs"]] == [job.id]
    assert api.resume_job(job.id)["state"] == "running"
    scripted.embedder.gate.set()
    assert job.finished.wait(20)
    (found,) = api.jobs("c")["jobs"]
    assert (found["state"], found["added"], found["done"], found["total"]) == ("done", 2, 3, 3)
    assert found["skipped"] == [{"file": "a.pdf, page 2", "reason": "scripted: one of these cannot be read"}]
    scripted.embedder.refuses = "no such word"
    again = service.ingestor.find_job(api.retry_job(job.id)["job"])
    assert again.finished.wait(20) and len(again.added) == 1
    assert not api.jobs("c")["jobs"][-1]["can_retry"]


def test_an_upload_is_cancelled_and_others_are_not_known(
    service: Service, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    api = JobsApi(service)
    scripted.embedder.gate.clear()
    job = service.ingestor.start(made(service.library), [upload(tmp_path, "a.pdf", pdf([["words"]] * 30))])
    until(lambda: bool(scripted.embedder.calls))
    api.cancel_job(job.id)
    scripted.embedder.gate.set()
    assert job.finished.wait(20) and api.jobs("c")["jobs"][0]["state"] == "cancelled"
    for call in (api.pause_job, api.resume_job, api.cancel_job, api.retry_job):
        with pytest.raises(NotFoundError, match="no such job"):
            call("0" * 32)
    with pytest.raises(NotFoundError, match="nothing to try again"):
        api.retry_job(job.id)
