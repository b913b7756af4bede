"""Shows what others have changed in the collection that a view of the page shows.

They are in another browser, or on a machine that shares the library. The browser asks for it (files.js) when it has
heard of a change.
"""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from serving.errors import ServingError
from serving.library.catalogue import CollectionGoneError
from serving.library.records import Collection
from ui.access.page_views import PageViews
from ui.components import results
from ui.core.service import Service
from ui.search.address import Entry
from ui.search.answers import Answers
from ui.search.collection_tools import Updates
from ui.search.layout import MINE, SearchWidgets
from ui.search.question import LastSearch


class ChangesByOthers:
    """Returns what changes, by widget: no more than has changed, for somebody may be at work on the rest."""

    def __init__(
        self,
        service: Service,
        widgets: SearchWidgets,
        answers: Answers,
        views: PageViews,
        update_panel: Callable[[str], Updates],
        show_collection: Callable[[str], Updates],
    ) -> None:
        self._service = service
        self._w = widgets
        self._answers = answers
        self._views = views
        self._update_panel = update_panel
        self._show_collection = show_collection

    def show(self, last: LastSearch, collection: str, top_k: str, target: str, event: gr.EventData) -> Updates:
        """Return the list of files and the progress of uploads as they are now, and other results if a page is gone."""
        key = str(event.key)
        if not collection or (key and not self._views.is_at(key)):
            return {self._w.summary: gr.skip()}
        try:
            found = self._service.ownership.find(key or collection)
        except CollectionGoneError:
            gone = results.render_notice("This collection was deleted", "Your own pages are shown instead.", "error")
            return {**self._show_collection(MINE), self._w.summary: gone}
        except ServingError:  # whoever asks for something next is told
            return {self._w.summary: gr.skip()}
        address = self._service.ownership.address_of(found)
        panel = self._update_panel(address)
        if address == collection:  # a name that is being typed stays
            panel[self._w.collection] = gr.update(choices=panel[self._w.collection]["choices"])
        if not self._service.ingestor.recent_jobs(found.key):
            del panel[self._w.progress]  # what stands there is this view's own: that its sample pages were loaded, say
        if self._service.ingestor.active_job(found.key) is not None:  # choices stay as long as they change all the time
            panel = {w: update for w, update in panel.items() if w not in self._w.filters.of_collection}
        return {**panel, **self._rank_again(last, found, Entry(address, top_k, target, is_new=False))}

    def _rank_again(self, last: LastSearch, found: Collection, entry: Entry) -> Updates:
        ids = [hit.page.id for hit in last.hits]
        there = self._service.library.catalogue.read_pages(ids)
        if not last.query or last.collection != found.key or len(there) == len(ids):
            return {}
        return self._answers.rank_kept(last, found.key, entry)
