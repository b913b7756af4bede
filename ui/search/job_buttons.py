"""The buttons below the progress of a collection's uploads: pause, resume, cancel, try again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ui.core.ingest import Ingestor
from ui.core.jobs import IngestJob

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


def pause_or_resume(ingestor: Ingestor, jobs: Sequence[IngestJob], button: str) -> None:
    """Do with all jobs what the button said. Raises LibraryError."""
    for job in jobs:
        (ingestor.resume if button == RESUME else ingestor.pause)(job)
