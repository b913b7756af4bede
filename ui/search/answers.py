"""What the Search tab shows for a question: summary, cards, a page in full, and what the address names."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import gradio as gr
from markupsafe import Markup

from serving.errors import NotFoundError, ServingError
from serving.library.records import ALL_PAGES, CollectionKey, Hit
from ui.components import results
from ui.components.results import NO_RANKS, Ranks
from ui.core.service import Question, SearchResult, Service
from ui.search import document, page_regions
from ui.search.address import Entry, SearchHistory
from ui.search.collection_tools import Updates
from ui.search.layout import SearchWidgets
from ui.search.question import LastSearch, explain_no_hits, parse_top_k
from ui.servers.target import Target

AWAKE_S = 0.1
"""How long a server that is awake has to answer before first results are shown: most do, and nothing is shown twice."""
SLOW_S = 0.3
"""A server that took longer for its last question has no time at all."""


@dataclass(frozen=True)
class Asked:
    """A question, where it is asked, and the entry of the browser's history that it gets."""

    question: Question
    key: CollectionKey
    dimension: int | None
    entry: Entry


class Answers:
    """Returns what changes, by widget. `find_requested` names the collection of a page that is still opening."""

    def __init__(self, service: Service, widgets: SearchWidgets, find_requested: Callable[[], str]) -> None:
        self.service = service
        self.w = widgets
        self.history = SearchHistory()
        self._slow: set[str] = set()
        """Servers that took long for their last question."""
        self._opened: dict[str, str] = {}
        """The page that was opened among the first results of each search that is still asked; "" for none."""
        self._find_requested = find_requested

    def answer(self, question: Question, entry: Entry, dimension: int | None) -> Iterator[Updates]:
        """Yield what is found for a question in the place of an entry of the browser's history.

        Where the server takes a while, pages come first that are found by the words of their text.
        """
        top_k = parse_top_k(entry.top_k)
        entry = replace(entry, top_k=str(top_k), query=question.text, like=question.like)
        entry = replace(entry, image=question.image is not None, search=secrets.token_hex(16))
        try:
            # A question that comes before the page knows its collection asks the one that it opens with.
            collection = self.service.ownership.find(entry.collection or self._find_requested())
            entry = replace(entry, collection=self.service.ownership.address_of(collection))
            target = self.service.targets.get(entry.server)
        except ServingError as error:
            yield {**self.show_failure(error), **self.tell(replace(entry, page="", search=""))}
            return
        asked = Asked(question, collection.key, dimension, entry)
        with ThreadPoolExecutor(1, thread_name_prefix="search") as pool:
            final = pool.submit(self._search, asked, top_k, target)
            first = self._find_first(asked, top_k, target, final)
            try:
                if first:
                    yield self._show_first(asked, first, target)
                yield self._show_final(asked, final, came_first=bool(first))
            finally:  # also where nobody waits for it any more
                self._opened.pop(entry.search, None)

    def _search(self, asked: Asked, top_k: int, target: Target) -> SearchResult:
        began = time.monotonic()
        try:
            return self.service.search(asked.question, asked.key, top_k, asked.dimension, target.name)
        finally:
            is_slow = time.monotonic() - began > SLOW_S
            (self._slow.add if is_slow else self._slow.discard)(target.name)

    def _find_first(self, asked: Asked, top_k: int, target: Target, final: Future[SearchResult]) -> list[Hit]:
        """Return the pages to show until the server has answered; none if it does so at once, or nothing is found."""
        if asked.question.like:
            return []
        wait([final], AWAKE_S if target.may_answer_soon and target.name not in self._slow else 0)
        if final.done():
            return []
        try:
            hits = self.service.find_first(asked.question, asked.key, top_k)
        except ServingError:  # which the search itself tells
            return []
        return [] if final.done() else hits

    def _show_first(self, asked: Asked, hits: list[Hit], target: Target) -> Updates:
        entry = asked.entry
        opened = entry.page if document.has_page(self.service, asked.key, entry.page) else ""
        page = opened or hits[0].page.id
        last = LastSearch(asked.question, tuple(hits), collection=asked.key, id=entry.search)
        self._opened[entry.search] = opened
        return {
            self.w.summary: results.render_first_summary(target.title, wakes_up=not target.may_answer_soon),
            self.w.gallery: results.render_gallery(hits, NO_RANKS, page, entry.search),
            self.w.detail: self.render_page(last, page),
            self.w.last: last,
            **self.tell(replace(entry, page=opened)),
        }

    def _show_final(self, asked: Asked, final: Future[SearchResult], *, came_first: bool) -> Updates:
        """Return what the server has found; a page that was opened among the first results stays as it is."""
        wait([final])
        entry, opened = asked.entry, self._opened.get(asked.entry.search, "")
        if came_first:
            entry = replace(entry, page=opened, is_new=False, returned=False)
        try:
            shown = self._show_entry(asked.question, final.result(), asked.key, asked.dimension, entry)
        except ServingError as error:
            if came_first:
                return {self.w.summary: results.render_first_failed(error)}
            return {**self.show_failure(error), **self.tell(replace(entry, page="", search=""))}
        if came_first and opened and shown[self.w.last].hits:
            del shown[self.w.detail]
        return shown

    def rank_kept(self, last: LastSearch, key: CollectionKey, entry: Entry) -> Updates:
        """Return what is found now for a question that was asked before, in the place of an entry. Asks no model."""
        top_k = parse_top_k(entry.top_k)
        entry = replace(entry, top_k=str(top_k), query=last.question.text, like=last.question.like, search=last.id)
        try:
            found = self.service.rank(last.question, last.vector, last.fingerprint, key, top_k, last.dimension)
            return self._show_entry(last.question, found, key, last.dimension, entry)
        except ServingError as error:
            return {**self.show_failure(error), **self.tell(replace(entry, page=""))}

    def _show_entry(
        self, question: Question, found: SearchResult, key: CollectionKey, dimension: int | None, entry: Entry
    ) -> Updates:
        """Return what was found, which the address is to name. Raises ServingError."""
        entry = replace(entry, search=entry.search or secrets.token_hex(16))
        if not found.hits or not document.has_page(self.service, key, entry.page):
            entry = replace(entry, page="")
        shown = self.show_found(question, found, key, dimension, entry.search, entry.page)
        return {**shown, **self.tell(entry)}

    def show_found(
        self,
        question: Question,
        found: SearchResult,
        key: CollectionKey,
        dimension: int | None,
        search: str,
        page: str = "",
        was: Ranks = NO_RANKS,
    ) -> Updates:
        """Return what was found, with one page in full, the best where `page` is "". Raises ServingError.

        `search`: the id by which it is kept, so that it can be ranked again.
        """
        catalogue = self.service.library.catalogue
        asked = question, tuple(found.hits), found.query.tobytes(), found.fingerprint, dimension
        last = LastSearch(*asked, collection=key, id=search)
        self.history.keep(replace(last, hits=()))
        if not found.hits:
            return {**self.clear(), self.w.summary: explain_no_hits(found, question), self.w.last: last}
        page = page or found.hits[0].page.id
        like = results.quote_page(catalogue.read_page(question.like)) if question.like else ""
        collection, filtered = catalogue.read_collection(key), question.selection != ALL_PAGES
        summary = results.render_summary(found, collection, like, filtered=filtered, dimension=dimension, was=was)
        return {
            self.w.summary: summary,
            self.w.gallery: results.render_gallery(found.hits, was, page, search),
            self.w.detail: self.render_page(last, page),
            self.w.last: last,
        }

    def show_alone(self, key: CollectionKey, entry: Entry) -> Updates:
        """Return a page that an entry names without a question, or nothing where it names none."""
        page = entry.page if document.has_page(self.service, key, entry.page) else ""
        last = LastSearch(collection=key)
        opened = {self.w.detail: self.render_page(last, page), self.w.last: last} if page else {}
        return {**self.clear(), **opened, **self.tell(replace(entry, page=page))}

    def return_to_page(self, last: LastSearch, entry: Entry) -> Updates:
        """Return the page of an entry; the results stay."""
        page = entry.page if document.has_page(self.service, last.collection, entry.page) else ""
        detail = self.render_page(last, page or last.hits[0].page.id)
        return {self.w.detail: detail, **self.tell(replace(entry, page=page))}

    def render_page(self, last: LastSearch, page: str) -> Markup:
        try:
            return page_regions.render_detail(document.open_page(self.service, last, page))
        except NotFoundError:
            return results.render_page_gone()

    def show_page(self, last: LastSearch, event: gr.EventData) -> Markup:
        """Render the page that was clicked or turned to, as it was found: no server is asked."""
        try:
            shown = document.turn_to(self.service, last, event)
            if last.id in self._opened:
                self._opened[last.id] = shown.page.id
            return page_regions.render_detail(shown)
        except NotFoundError:
            return results.render_page_gone()

    def show_failure(self, error: ServingError) -> Updates:
        return {**self.clear(), self.w.summary: results.render_error("The search failed", error)}

    def clear(self) -> Updates:
        return {self.w.summary: "", self.w.gallery: "", self.w.detail: "", self.w.last: LastSearch()}

    def tell(self, entry: Entry) -> Updates:
        """Return what the address is to name; a server only where there are several."""
        several = isinstance(self.w.target, gr.Dropdown)
        return {self.w.address: (entry if several else replace(entry, server="")).to_json()}
