"""The part of the page's API that shows, pauses, cancels and repeats uploads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradio.events import api

from ui.api.search_api import as_gradio_errors
from ui.core.jobs import IngestJob
from ui.core.service import Service


class JobsApi:
    """The endpoints: one method for each, under its name. A job's id, which cannot be guessed, is the permission."""

    def __init__(self, service: Service) -> None:
        self._ingestor = service.ingestor
        self._ownership = service.ownership

    def jobs(self, collection: str) -> dict[str, Any]:
        """List the uploads into a collection that go on, ended lately, or can be tried again.

        Args:
            collection: its id or name
        """
        found = self._ingestor.recent_jobs(self._ownership.find_key(collection))
        return {"jobs": [as_json(job) for job in found]}

    def pause_job(self, job: str) -> dict[str, Any]:
        """Begin no further page of an upload until it is resumed, also after a restart of the page.

        Args:
            job: its id, as /jobs returns it
        """
        return self._change(job, self._ingestor.pause)

    def resume_job(self, job: str) -> dict[str, Any]:
        """Go on with an upload that was paused.

        Args:
            job: its id, as /jobs returns it
        """
        return self._change(job, self._ingestor.resume)

    def cancel_job(self, job: str) -> dict[str, Any]:
        """End an upload; its pages stay. Of one that has ended, remove the files that were kept to try them again.

        Args:
            job: its id, as /jobs returns it
        """
        return self._change(job, self._ingestor.cancel_job)

    def retry_job(self, job: str) -> dict[str, Any]:
        """Add what an upload has skipped, or all that is missing of one that failed. Returns the new upload at once.

        Args:
            job: its id, as /jobs returns it
        """
        return as_json(self._ingestor.retry(self._ingestor.find_job(job)))

    def _change(self, job: str, change: Callable[[IngestJob], None]) -> dict[str, Any]:
        found = self._ingestor.find_job(job)
        change(found)
        return as_json(found)


def build(service: Service) -> None:
    endpoints = JobsApi(service)
    for function in (
        endpoints.jobs, endpoints.pause_job, endpoints.resume_job, endpoints.cancel_job, endpoints.retry_job,
    ):  # fmt: skip
        api(as_gradio_errors(function), api_name=function.__name__, concurrency_limit=4)


def as_json(job: IngestJob) -> dict[str, Any]:
    with job.lock:
        skipped = [{"file": item.file, "reason": item.reason} for item in job.skipped]
    return {
        "job": job.id, "state": job.state, "total": job.total, "done": job.done, "added": len(job.added),
        "skipped": skipped, "error": job.error, "continued": job.continued, "can_retry": job.can_retry,
        "seconds_left": None if job.seconds_left is None else round(job.seconds_left),
    }  # fmt: skip
