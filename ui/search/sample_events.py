"""The button that loads the sample pages, and the line below it that has them read again, by the chosen server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup

from serving.errors import ServingError
from serving.library.catalogue import NAME_CHARS, FingerprintError
from serving.library.records import Collection, CollectionKey
from ui.access.uploads import Upload
from ui.components import results
from ui.components.templates import render_template
from ui.components.wording import format_count
from ui.core.background_task import BackgroundTask
from ui.core.sample_pages import list_sample_files
from ui.core.service import Service
from ui.search.layout import SAMPLES, SearchWidgets
from ui.servers.target import Target

Updates = dict[Any, Any]
NOT_ADDED = "The sample pages were not added"


class SampleEvents:
    """What the button and the line do. `show` returns another collection, in the widgets of the tab."""

    def __init__(self, service: Service, widgets: SearchWidgets, show: Callable[[str], Updates]) -> None:
        self.service = service
        self.w = widgets
        self._show = show

    def add(self, target: str) -> Iterator[Updates]:
        """Add the sample pages: at once where the vectors that ship with them fit the server, else by an upload."""
        into = None
        try:
            chosen = self.service.targets.get(target)
            into = self.service.ownership.find_or_create(self._name_collection(chosen))
            if self.service.samples.fits(chosen):
                yield from self._load(into)
                return
            uploads = [Upload(path, path.name) for path in list_sample_files()]
            self.service.ingestor.start(into.key, uploads, chosen)
            yield self._show(into.key)
        except ServingError as error:
            shown = {} if into is None else self._show(into.key)
            yield {**shown, self.w.progress: "", self.w.summary: results.render_error(NOT_ADDED, error)}

    def _load(self, into: Collection) -> Iterator[Updates]:
        began = time.monotonic()
        task = BackgroundTask(lambda step: self.service.samples.load(into.key, step))
        for done, total in task.follow_progress():
            yield {self.w.progress: results.render_step("Loading the sample pages", done, total)}
        added = task.result()
        took = time.monotonic() - began
        words = f"{format_count(added, 'page')} added in {took:.1f} s" if added else "The sample pages are all here"
        ended = render_template("pages/ended.html", text=words, unread=0, skipped=(), kept="")
        yield {**self._show(into.key), self.w.progress: ended}

    def _name_collection(self, target: Target) -> str:
        """Return the name of the collection of sample pages that takes this server's vectors."""
        try:
            target.check_fingerprint(self.service.library, self.service.ownership.find_key(SAMPLES))
        except FingerprintError:
            return f"{SAMPLES} ({target.name})"[:NAME_CHARS]
        except ServingError:
            pass  # the job meets the same error, and reports it
        return SAMPLES

    def read_again(self, collection: str, target: str) -> Updates:
        """Have the pages of the collection that is shown read by the chosen server, as any upload is."""
        try:
            key = self.service.ownership.find_key(collection)
            self.service.samples.read_again(key, self.service.targets.get(target))
        except ServingError as error:
            return {self.w.summary: results.render_error("The sample pages were not read again", error)}
        return self._show(collection)

    def render_line(self, collection: CollectionKey) -> Markup:
        """Render where the vectors come from; nothing for a collection whose sample pages were read here."""
        return render_template("pages/samples.html") if self.service.samples.is_loaded(collection) else results.NOTHING
