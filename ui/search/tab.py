"""The events of the Search tab: what changes when its widgets, which are in `layout`, are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import LocalContext
from gradio.events import Dependency
from markupsafe import Markup

from serving.errors import NotFoundError, ServingError
from serving.library.catalogue import CollectionGoneError, is_key
from serving.library.records import ALL_PAGES, Collection, Selection
from ui.access.page_views import PageViews
from ui.access.uploads import Upload, parse_uploads
from ui.components import results
from ui.components.events import PRIVATE, Arguments, call_script, get_current_page
from ui.components.templates import render_template
from ui.core.sample_pages import pick_sample_questions
from ui.core.service import Question, Service
from ui.search import filters, page_regions
from ui.search.address import Entry, parse_entry
from ui.search.answers import Answers
from ui.search.changes_by_others import ChangesByOthers
from ui.search.collection_tools import Updates
from ui.search.file_list import FIRST_VIEW, ListedFiles, ListView, parse_view
from ui.search.job_buttons import JobActions
from ui.search.layout import MINE, SAMPLES, SearchWidgets
from ui.search.question import TOP_K, LastSearch, parse_question, parse_selection, parse_top_k
from ui.search.sample_events import SampleEvents
from ui.servers.target import Target

TICK_S = 0.25
"""How often a running job is looked at; the page hears of it only when something changed."""
NOT_DELETED = "The deletion was not saved"
ASKING: Arguments = {**PRIVATE, "preprocess": False}
"""Values come as the browser sent them: we say that a file is no image, before it is decoded."""


def build(service: Service, target: Component) -> None:
    SearchEvents(service, SearchWidgets(service, target)).connect()


class SearchEvents:
    """One method for each thing that can happen; each returns what changes, by widget."""

    def __init__(self, service: Service, widgets: SearchWidgets) -> None:
        self.service = service
        self.w = widgets
        self.views = PageViews()
        self.jobs = JobActions(service)
        self.samples = SampleEvents(service, widgets, lambda key: self.show_collection(key, is_new=True))
        self.listed = ListedFiles(service)
        self.answers = Answers(service, widgets, self._find_requested)
        showing = self.views, self._update_panel, self.show_collection
        self.others = ChangesByOthers(service, widgets, self.answers, *showing)

    def connect(self) -> None:
        w = self.w
        page = get_current_page()
        place = [w.collection, w.top_k, w.target]
        question = [w.query, *place, w.image, w.weight, w.minimum, *w.filters.widgets]
        outputs: list[Component] = [w.summary, w.gallery, w.detail, w.last, w.address]
        choice = [w.target] if isinstance(w.target, gr.Dropdown) else []
        opened = page.load(self.open_page, None, [w.query, w.top_k, *self.panel, w.summary, *choice], **PRIVATE)
        # What the address asks is asked by the browser (entries.js): what is being typed meanwhile is not.
        opened.then(None, place, None, js=call_script("arrive", TOP_K), **PRIVATE)
        page.load(self.offer_dimensions, [w.target], [w.filters.dimension], **PRIVATE)
        self._connect_pages(opened, place, outputs)
        self._connect_asking(place, question, outputs)
        self._connect_history([w.query, w.top_k, w.weight, w.minimum, w.filters.dimension, *choice, *outputs])

    def _connect_pages(self, opened: Dependency, place: list[Component], outputs: list[Component]) -> None:
        w = self.w
        everything = [*self.panel, *outputs, w.many.table, w.many.save]
        shown = [w.files, w.collection, w.summary]
        adding: Arguments = {"fn": self.add_files, "outputs": shown, "preprocess": False, **PRIVATE}
        moved: Arguments = {"fn": None, "inputs": [w.collection, w.target], "js": call_script("move"), **PRIVATE}
        switched = w.collection.input(self.switch_collection, [w.collection], everything, **PRIVATE)
        added = [
            w.files.upload(inputs=[w.files, w.collection, w.target], **adding),
            w.folder.upload(inputs=[w.folder, w.collection, w.target], **adding),
        ]
        sampled = w.samples.click(self.samples.add, [w.target], everything, **PRIVATE)
        again = w.shipped.click(self.samples.read_again, [w.collection, w.target], everything, **PRIVATE)
        retried = w.jobs.retry.click(self.retry_jobs, [w.collection], [*self.panel, w.summary], **PRIVATE)
        for begun in (opened, switched, *added, sampled, again, retried):
            begun.then(self.follow_job, [w.collection], self.panel, trigger_mode="multiple", **PRIVATE)
        for begun in added:  # a collection has a key of its own from its first page
            begun.then(**moved)
        w.jobs.cancel.click(self.jobs.cancel, [w.collection], [w.summary], **PRIVATE)
        w.jobs.pause.click(self.jobs.pause_or_resume, [w.collection, w.jobs.pause], [w.summary], **PRIVATE)
        w.jobs.dismiss.click(self.dismiss_jobs, [w.collection], self.panel, **PRIVATE)
        w.tools.connect(w.collection, w.target, self.show_collection, everything)
        w.listing.click(self.delete_files, [w.collection], everything, **PRIVATE)
        # Not "always_last": Gradio 6.31 sends the last event with what the first one said.
        w.listing.select(self.listed.turn, [w.collection], [w.listing], trigger_mode="multiple", **PRIVATE)
        w.filters.connect(w.collection)
        seen = [w.last, *place]
        w.detail.click(self.use_button, seen, everything, **PRIVATE)
        w.listing.submit(self.others.show, seen, everything, trigger_mode="multiple", **PRIVATE)

    def _connect_asking(self, place: list[Component], question: list[Component], outputs: list[Component]) -> None:
        w = self.w
        if isinstance(w.target, gr.Dropdown):
            # The browser removes another server's results at once: an answer from here could come after a search's.
            emptied = [*outputs[:3], w.many.table]
            w.target.input(None, None, emptied, js="() => ['', '', '', '']", **PRIVATE)
            w.target.input(None, [w.collection, w.target], None, js=call_script("move"), **PRIVATE)
            w.target.input(self.check_server, [w.collection, w.target], [w.summary], **PRIVATE)
            w.target.change(self.offer_dimensions, [w.target], [w.filters.dimension], **PRIVATE)
        # One listener: the next question waits for the answer to the last, else they could come in another order.
        triggers = [w.query.submit, w.ask.click, w.image.change]
        asked = [gr.on(triggers, self.ask, question, outputs, trigger_mode="always_last", **ASKING)]
        for questions in (w.chips, w.many.table):
            taken = questions.click(self.take_question, None, [w.query], **PRIVATE)
            asked.append(taken.then(self.search, question, outputs, **ASKING))
        # Gradio 6.31 sends no `input` event when all choices are removed at once.
        several = w.filters.files.change, w.filters.types.change, w.filters.folder.change
        changes = [*several, w.filters.added.input, w.filters.dimension.input]
        ranked = [w.last, *place, *w.filters.widgets]
        gr.on(changes, self.rank_again, ranked, outputs, trigger_mode="always_last", **ASKING)
        for answered in asked:  # a filter that was set while the answer was on its way
            answered.then(self.rank_again, ranked, outputs, **ASKING)
        w.many.connect([w.collection, w.target, *w.filters.widgets])
        shown = w.detail.submit(self.answers.show_page, [w.last], [w.detail], trigger_mode="multiple", **PRIVATE)
        shown.then(None, None, None, js=call_script("endTurn"), trigger_mode="multiple", **PRIVATE)
        page_regions.connect(self.service, w.detail, [w.last, w.collection, w.target])

    def _connect_history(self, widgets: list[Component]) -> None:
        w = self.w
        everything = [*widgets, *self.panel, w.many.table, w.many.save]
        # The browser asks for one at a time; it may ask for the next as soon as it sees the one before.
        returning: Arguments = {"trigger_mode": "multiple", **PRIVATE}
        returned = w.address.click(self.return_to, [w.last, w.collection], everything, **returning)
        # The same, where the entry is of another collection, to which pages may be being added.
        moved = w.address.select(self.return_to, [w.last, w.collection], everything, **returning)
        moved.then(self.follow_job, [w.collection], self.panel, trigger_mode="multiple", **PRIVATE)
        for one in (returned, moved):
            one.failure(None, None, None, js=call_script("forgetEntry"), **PRIVATE)

    # Pages

    def add_files(self, payload: object, collection: str, target: str) -> Updates:
        given, server = parse_uploads(payload), self.service.targets.get(target)
        into = self.service.ownership.find_or_create(collection or self._find_requested())
        outcome = self._start_job(into, given, server)
        self.views.show(into)
        return {self.w.files: None, self.w.collection: self._offer_collections(into), self.w.summary: outcome}

    def _start_job(self, into: Collection, uploads: list[Upload], target: Target) -> Any:
        """Start an upload, and return why it was refused if it was."""
        try:
            self.service.ingestor.start(into.key, uploads, target)
        except ServingError as error:
            return results.render_error("The files were not added", error)
        return gr.skip()

    def follow_job(self, collection: str) -> Iterator[Updates]:
        """Yield what is being added to the collection, each time that changes, also for who comes later.

        It ends with the job, or when this page view turns to another collection.
        """
        ingestor, shown, view = self.service.ingestor, "", self.views.current_view()
        found = None
        with suppress(ServingError):  # reported by whoever led here
            found = self.service.ownership.find(collection)
        if found is None or not ingestor.recent_jobs(found.key):
            yield gr.skip()
            return
        key = found.key
        while (job := ingestor.active_job(key)) is not None and not self.views.has_left(found, view):
            job.finished.wait(TICK_S)
            now = results.render_jobs(ingestor.recent_jobs(key))
            if now != shown and not self.views.has_left(found, view):
                shown = now
                yield {self.w.progress: now, **self.w.jobs.show(ingestor.recent_jobs(key))}
        if self.views.has_left(found, view):
            yield {self.w.progress: gr.skip()}
            return
        with suppress(CollectionGoneError):  # else it may have another name by now
            collection = self.service.ownership.address_of(self.service.ownership.find(key))
        yield {**self._update_panel(collection), self.w.progress: results.render_jobs(ingestor.recent_jobs(key))}

    def retry_jobs(self, collection: str) -> Updates:
        outcome = self.jobs.retry(collection)
        return {**self._update_panel(collection), self.w.summary: outcome}

    def dismiss_jobs(self, collection: str) -> Updates:
        self.jobs.dismiss(collection)
        return self._update_panel(collection)

    @property
    def panel(self) -> list[Component]:
        """The widgets that `_update_panel` fills."""
        w = self.w
        return [w.progress, w.shipped, *w.jobs.widgets, w.listing, w.collection, w.chips, *w.filters.of_collection]

    def _update_panel(self, collection: str, chosen: Selection | None = None, view: ListView = FIRST_VIEW) -> Updates:
        """Return the state of a collection; one's own pages in place of one that is gone. `chosen`: by the filters."""
        catalogue, ingestor, ownership = self.service.library.catalogue, self.service.ingestor, self.service.ownership
        try:
            found = ownership.find(collection)
        except NotFoundError:
            found = ownership.find(MINE)
        self.views.show(found)
        self.service.library.vectors.begin_loading(found.key)
        listing = self.listed.render(found, view)
        queries = pick_sample_questions() if found.name.partition(" (")[0] == SAMPLES else []
        return {
            self.w.progress: results.render_jobs(ingestor.recent_jobs(found.key)),
            self.w.shipped: self.samples.render_line(found.key),
            **self.w.jobs.show(ingestor.recent_jobs(found.key)),
            self.w.listing: listing,
            self.w.collection: self._offer_collections(found),
            self.w.chips: render_template("search/chips.html", queries=queries),
            **self.w.filters.offer_files(catalogue.list_file_names(found.key), chosen),
        }

    def show_collection(self, collection: str, *, is_new: bool = False) -> Updates:
        """Return another collection, or one that has changed, without what was found before."""
        panel = self._update_panel(collection, ALL_PAGES)
        return {
            **panel,
            **self._clear_results(),
            **self.answers.tell(Entry(panel[self.w.collection]["value"], is_new=is_new)),
        }

    def _clear_results(self) -> Updates:
        return {**self.answers.clear(), self.w.many.table: "", self.w.many.save: gr.update(visible=False)}

    def _offer_collections(self, found: Collection) -> Any:
        ownership = self.service.ownership
        return gr.update(choices=ownership.list_choices(found, (MINE, SAMPLES)), value=ownership.address_of(found))

    def switch_collection(self, collection: str | None) -> Updates:
        if not collection:  # the list was left before the page had opened
            return {self.w.summary: gr.skip()}
        ownership = self.service.ownership
        try:
            # Where each browser has its own, a name that is typed makes a collection: to share, or to move pages to.
            found = ownership.find_or_create(collection) if ownership.per_browser else ownership.find(collection)
            if self.views.is_showing(found, self.views.current_view()):
                # A list also sends its choice when it is only left: the results stay.
                return {self.w.summary: gr.skip()}
            return self.show_collection(ownership.address_of(found), is_new=True)
        except ServingError as error:
            updates = {**self._clear_results(), self.w.summary: results.render_error("This name cannot be used", error)}
            with suppress(NotFoundError):  # without a cookie there are no pages of one's own to show instead
                updates = {**self._update_panel(MINE, ALL_PAGES), **updates}
            return updates

    def check_server(self, collection: str, target: str) -> Any:
        """Say that the chosen server cannot rank the collection, before it is started."""
        if not collection:  # the list was left before the page had opened
            return gr.skip()
        try:
            self.service.targets.get(target).check_fingerprint(
                self.service.library, self.service.ownership.find_key(collection)
            )
        except ServingError as error:
            return results.render_error("This server cannot search this collection", error)
        return gr.skip()

    def offer_dimensions(self, target: str) -> Any:
        return filters.offer_dimensions(self.service.targets.get(target))

    def delete_files(self, collection: str, event: gr.EventData) -> Updates:
        """Delete a file, those that were found in the list, or the collection."""
        outcome: Markup | str = ""
        is_all = event.all is True
        try:
            key = self.service.ownership.find_key(collection)
            if is_all:
                self.views.leave()  # nobody else has deleted what it shows
                self.service.delete_collection(key)
            else:
                self.service.delete_files(key, self.listed.find_named(key, event))
        except ServingError as error:
            outcome = results.render_error(NOT_DELETED, error)
        panel = self._update_panel(collection, ALL_PAGES if is_all else None, parse_view(event))
        told = self.answers.tell(Entry(panel[self.w.collection]["value"], is_new=False))
        return {**panel, **self._clear_results(), self.w.summary: outcome, **told}

    # Asking

    def open_page(self, request: gr.Request) -> Updates:
        """Return the widgets as the address has them: ?c=collection&q=query&k=top_k&t=target.

        What it does not name may have been used already, and is left alone. `return_to` does the rest of it.
        """
        asked = dict(request.query_params)
        try:
            collection = self._find_requested()
        except NotFoundError:
            return {self.w.summary: render_template("search/no_cookie.html")}
        named: Updates = {}
        if "q" in asked:
            named[self.w.query] = self._read_query(request)
        if "k" in asked:
            named[self.w.top_k] = str(parse_top_k(asked["k"]))
        if "t" in asked and isinstance(self.w.target, gr.Dropdown):
            named[self.w.target] = self.service.targets.get_or_first(asked["t"]).name
        if greeting := self._greet(collection, asked.get("c", "")):
            named[self.w.summary] = greeting
        return {**named, **self._update_panel(collection)}

    def _greet(self, collection: str, wanted: str) -> Markup:
        """Render what to do first, or why another collection than the one in the address is shown."""
        if is_key(wanted):
            try:
                self.service.ownership.find(wanted)
            except CollectionGoneError:
                gone = "It was deleted, or the link is incomplete. Your own pages are shown instead."
                return results.render_notice("This collection does not exist", gone, "error")
        if self.service.ownership.find(collection).pages:
            return results.NOTHING
        return render_template("search/welcome.html", local=all(target.is_local for target in self.service.targets))

    def _find_requested(self) -> str:
        """Return the collection in the address of the page that caused this event; else the one last added to."""
        request = LocalContext.request.get(None)
        name = "" if request is None else str(dict(request.query_params).get("c", ""))
        ownership = self.service.ownership
        try:
            return ownership.address_of(ownership.find(name or ownership.find_latest_name() or MINE))
        except ServingError:
            return ownership.address_of(ownership.find(MINE))

    def take_question(self, event: gr.EventData) -> str:
        return str(event.query)

    def _read_query(self, request: gr.Request) -> str:
        return str(dict(request.query_params).get("q", ""))[: self.service.settings.max_text_chars]

    def ask(self, event: gr.EventData, query: str, *rest: Any) -> Iterator[Updates]:
        """Search, but not where all that has happened is that an image was taken away."""
        is_taken_away = event.target is self.w.image and not rest[3] and not query.strip()
        yield from [{self.w.summary: gr.skip()}] if is_taken_away else self.search(query, *rest)

    def search(
        self, query: str, collection: str, top_k: str, target: str, image: object, *refined: Any
    ) -> Iterator[Updates]:
        """Search. `refined`: weight, minimum, the filters and dimension, as the browser sent them."""
        *limits, dimension = refined
        entry = Entry(collection, top_k, target, query)
        if not query.strip() and not image:
            advice = "Use words or a sentence, or add an image below the question."
            notice = results.render_notice("Type a question first", advice)
            yield {**self.answers.clear(), self.w.summary: notice, **self.answers.tell(replace(entry, query=""))}
            return
        try:
            question = parse_question(query, image, *limits)
            yield from self.answers.answer(question, entry, filters.parse_dimension(dimension))
        except ServingError as error:
            yield {**self.answers.show_failure(error), **self.answers.tell(entry)}

    def rank_again(self, last: LastSearch, collection: str, top_k: str, _: str, *chosen: object) -> Updates:
        """Rank other pages, or fewer numbers, for the last question: its vector is known, no model is asked.

        `chosen`: files, types, folder, time and dimension.
        """
        *selected, dimension = chosen
        if not last.query:
            return {self.w.summary: gr.skip()}
        size = filters.parse_dimension(dimension)
        question = last.question
        try:
            question = replace(question, selection=parse_selection(*selected))
            if (size, question.selection) == (last.dimension, last.question.selection):
                # A dropdown may send one choice twice: the second would take away which pages have moved.
                return {self.w.summary: gr.skip()}
            key = self.service.ownership.find_key(collection)
            found = self.service.rank(question, last.vector, last.fingerprint, key, parse_top_k(top_k), size)
            was = filters.find_ranks(self.service, last, key) if question.selection == last.question.selection else {}
            return self.answers.show_found(question, found, key, size, last.id, was=was)
        except ServingError as error:
            # The question is kept: another choice ranks it again.
            return {
                **self.answers.show_failure(error),
                self.w.last: replace(last, question=question, dimension=size, hits=()),
            }

    def use_button(
        self, last: LastSearch, collection: str, top_k: str, target: str, event: gr.EventData
    ) -> Iterator[Updates]:
        """Do what a button beside a page says: find others like it, or delete it."""
        page = str(event.page)
        entry = Entry(collection, top_k, target)
        if event.like:
            like = Question(like=page, minimum=last.question.minimum, selection=last.question.selection)
            yield from self.answers.answer(like, entry, last.dimension)
            return
        told = self.answers.tell(replace(entry, is_new=False))
        try:
            key = self.service.ownership.find_key(collection)
            self.service.delete_pages(key, [page])
        except ServingError as error:
            failure = {self.w.summary: results.render_error(NOT_DELETED, error)}
            yield {**self._update_panel(collection), **self.answers.clear(), **failure, **told}
            return
        yield {**self._update_panel(collection), **self._clear_results(), **told}
        if last.question.like != page and last.query:
            yield self.answers.rank_kept(last, key, replace(entry, is_new=False))

    # The browser's history

    def return_to(self, last: LastSearch, collection: str, event: gr.EventData) -> Iterator[Updates]:
        """Show an entry of the browser's history again; a model is asked only if the question's vector is not kept."""
        entry = parse_entry(event)
        if not event.redraw and last.hits and last.id == entry.search:
            yield self.answers.return_to_page(last, entry)
            return
        try:
            found = self.service.ownership.find(entry.collection or self._find_requested())
        except ServingError as error:
            summary = results.render_error("This collection cannot be shown", error)
            yield {**self.answers.clear(), self.w.summary: summary, **self.answers.tell(entry)}
            return
        entry = replace(entry, collection=self.service.ownership.address_of(found))
        kept = self.answers.history.find(entry.search)
        before = LastSearch(Question(entry.query)) if kept is None else kept
        # What somebody has set while the page opened stays, unless a kept search says what it was.
        is_untold = bool(event.arriving) and kept is None
        panel = self._update_panel(entry.collection, None if is_untold else before.question.selection)
        if entry.collection != collection:
            panel |= self._clear_results()
        widgets = {} if is_untold else self._return_widgets(before, entry, arriving=bool(event.arriving))
        if kept is not None:
            yield {**panel, **widgets, **self.answers.rank_kept(kept, found.key, entry)}
            return
        if not entry.query.strip() and not entry.like:
            summary = self._greet(entry.collection, entry.collection)
            yield {**panel, **widgets, **self.answers.show_alone(found.key, entry), self.w.summary: summary}
            return
        question = Question(like=entry.like) if entry.like else before.question
        for answered in self.answers.answer(question, entry, None):
            yield {**panel, **widgets, **answered}
            panel, widgets = {}, {}

    def _return_widgets(self, last: LastSearch, entry: Entry, *, arriving: bool) -> Updates:
        """Return the question's widgets as they were; when the page is opened, what is typed meanwhile stays."""
        question = last.question
        refined: Updates = {
            self.w.weight: round(100 * question.weight),
            self.w.minimum: question.minimum or 0,
            self.w.filters.dimension: filters.ALL if last.dimension is None else str(last.dimension),
        }
        if arriving:
            return refined
        several = isinstance(self.w.target, gr.Dropdown) and entry.server
        target = {self.w.target: self.service.targets.get_or_first(entry.server).name} if several else {}
        return {**refined, **target, self.w.query: question.text, self.w.top_k: str(parse_top_k(entry.top_k))}
