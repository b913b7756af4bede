"""The buttons below the progress of a collection's uploads: pause, resume, cancel, try again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from serving.errors import ServingError
from ui.components import results
from ui.core.jobs import IngestJob
from ui.core.service import Service

PAUSE, RESUME = "Pause", "Resume"
Updates = dict[Any, Any]


class JobButtons:
    """The widgets, made within the block that is being built. Each acts on all uploads into the shown collection.

    They are no part of what shows the progress, which is replaced with each page: a button would lose the focus.
    """

    def __init__(self) -> None:
        with gr.Row(elem_id="job-buttons"):
            self.pause = gr.Button(PAUSE, visible=False, elem_id="pause", size="sm", min_width=80)
            self.cancel = gr.Button("Cancel", visible=False, elem_id="cancel", size="sm", variant="stop", min_width=80)
            self.retry = gr.Button("Try again", visible=False, elem_id="retry", size="sm", min_width=160)
            self.dismiss = gr.Button("Dismiss", visible=False, elem_id="dismiss", size="sm", min_width=80)
        self.widgets = [self.pause, self.cancel, self.retry, self.dismiss]

    def show(self, jobs: Sequence[IngestJob]) -> Updates:
        """Return which buttons there are for these jobs."""
        active = [job for job in jobs if not job.finished.is_set() and not job.cancelled.is_set()]
        paused = bool(active) and all(job.state == "paused" for job in active)
        ended = [job for job in jobs if job.can_retry]
        return {
            self.pause: gr.update(visible=bool(active), value=RESUME if paused else PAUSE),
            self.cancel: gr.update(visible=bool(active)),
            self.retry: gr.update(visible=bool(ended), value=name_retry(ended)),
            self.dismiss: gr.update(visible=bool(ended)),
        }


def name_retry(jobs: Sequence[IngestJob]) -> str:
    failed = any(job.state == "failed" for job in jobs)
    return "Try again" if failed else f"Try the {sum(len(job.failures) for job in jobs):,} skipped again"


class JobActions:
    """What the buttons do with all uploads into a collection. Each returns an error to show, if there was one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ingestor = service.ingestor

    def list_jobs(self, collection: str) -> list[IngestJob]:
        return self._ingestor.recent_jobs(self._service.ownership.find_key(collection))

    def cancel(self, collection: str) -> Any:
        try:
            self._ingestor.cancel(self._service.ownership.find_key(collection))
        except ServingError as error:
            return results.render_error("The upload was not cancelled", error)
        return gr.skip()

    def pause_or_resume(self, collection: str, button: str) -> Any:
        """Do what the button says. Who follows the jobs shows it."""
        try:
            for job in self.list_jobs(collection):
                (self._ingestor.resume if button == RESUME else self._ingestor.pause)(job)
        except ServingError as error:
            return results.render_error("The upload goes on as it was", error)
        return gr.skip()

    def retry(self, collection: str) -> Any:
        """Add what was skipped, or left over by an upload that failed."""
        try:
            for job in self.list_jobs(collection):
                if job.can_retry:
                    self._ingestor.retry(job)
        except ServingError as error:
            return results.render_error("Nothing could be tried again", error)
        return gr.skip()

    def dismiss(self, collection: str) -> None:
        """Give up what was skipped: its files go, and how the uploads ended is not shown any more."""
        with suppress(ServingError):  # of a collection that is gone, with its jobs
            for job in self.list_jobs(collection):
                if job.finished.is_set():
                    self._ingestor.cancel_job(job)
            self._ingestor.forget_ended(self._service.ownership.find_key(collection))
