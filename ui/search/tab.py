"""The Search tab: what happens when its widgets, which `layout` has, are used. What is done is in `service`, how it
looks in `render`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import LocalContext
from gradio.events import Dependency
from markupsafe import Markup

from serving.errors import NotFoundError, ServingError
from serving.library.catalogue import NAME_CHARS, CollectionGoneError, FingerprintError, is_key
from serving.library.records import ALL_PAGES, Collection, CollectionKey
from ui.access.page_views import Views
from ui.access.uploads import Upload, uploads
from ui.components import results as render
from ui.components.events import PRIVATE, get_current_page
from ui.components.scripts import call_script
from ui.core.sample_pages import sample_chips, sample_files
from ui.core.service import Found, Question, Service
from ui.search import collection_tools, filters, layout, page_regions, score_matrix
from ui.search.layout import MINE, SAMPLES, Widgets
from ui.search.question import (
    TOP_K,
    LastSearch,
    explain_no_hits,
    name_page,
    parse_question,
    parse_selection,
    parse_top_k,
)
from ui.servers.target import Target

TICK_S = 0.25
"""How often a running job is looked at; the page hears of it only when something changed."""
NOT_DELETED = "The deletion was not saved"
NO_COOKIE = (
    "The cookie tells which collections are yours. Allow cookies for this address and reload. A link to a"
    " collection works without it."
)
Arguments = dict[str, Any]
ASKING: Arguments = {**PRIVATE, "preprocess": False}
"""As the browser sent it: a file that is no image is told by us, and not decoded before its size is known."""


def build(service: Service, target: Component) -> Widgets:
    widgets, controls = layout.build(service, target)
    Events(service, widgets).connect(controls)
    return widgets


class Events:
    """One method for each thing that can happen; each returns what changes, by widget."""

    def __init__(self, service: Service, widgets: Widgets) -> None:
        self.service = service
        self.w = widgets
        self.views = Views()
        self.welcome = render.render_welcome(all(target.local for target in service.targets))

    def connect(self, controls: collection_tools.Controls) -> None:
        w = self.w
        page = get_current_page()
        place = [w.collection, w.top_k, w.target]
        question = [w.query, *place, w.image, w.weight, w.minimum, *w.filters.widgets]
        results = [w.summary, w.gallery, w.detail, w.asked]
        share: Arguments = {**PRIVATE, "fn": None, "inputs": [*place, w.query], "js": call_script("shareSearch", TOP_K)}
        choice = [w.target] if isinstance(w.target, gr.Dropdown) else []
        opened = page.load(self.arrive, None, [w.query, w.top_k, *self.panels, w.summary, *choice], **PRIVATE)
        # What is being typed meanwhile is neither asked nor put into the address.
        place_only: Arguments = {**share, "inputs": place, "js": call_script("sharePlace", TOP_K)}
        opened.then(self.search_addressed, question, results, **ASKING).then(**place_only)
        page.load(self.sizes, [w.target], [w.filters.dimension], **PRIVATE)
        self.connect_pages(controls, opened, place, results, share)
        self.connect_asking(place, question, results, share)

    def connect_pages(
        self, controls: collection_tools.Controls, opened: Dependency, place: list[Component], results: list[Component],
        share: Arguments,
    ) -> None:  # fmt: skip
        w = self.w
        everything = [*self.panels, *results, w.many.table, w.many.save]
        adding: Arguments = {"fn": self.add, "outputs": [w.files, w.collection], "preprocess": False, **PRIVATE}
        switched = w.collection.input(self.switch, [w.collection], everything, **PRIVATE)
        for begun in (
            opened,
            switched,
            w.files.upload(inputs=[w.files, w.collection, w.target], **adding),
            w.folder.upload(inputs=[w.folder, w.collection, w.target], **adding),
            w.samples.click(self.add_samples, [w.target], everything, **PRIVATE),
        ):
            begun.then(self.follow, [w.collection], self.panels, trigger_mode="multiple", **PRIVATE)
            if begun is not opened:  # which writes the address once what it names has been asked
                begun.then(**share)
        w.cancel.click(self.cancel, [w.collection], None, **PRIVATE)
        collection_tools.Keeping(self.service, controls, w.collection, self.fresh).connect(w.target, everything, share)
        w.listing.click(self.delete_file, [w.collection], everything, **PRIVATE)
        w.detail.click(self.act, [w.asked, *place], everything, **PRIVATE)

    def connect_asking(
        self, place: list[Component], question: list[Component], results: list[Component], share: Arguments
    ) -> None:
        w = self.w
        if isinstance(w.target, gr.Dropdown):
            # What another server ranked goes at once, in the browser: an answer from here could come after a search's.
            emptied = [*results[:3], w.many.table]
            w.target.input(None, None, emptied, js="() => ['', '', '', '']", **PRIVATE)
            w.target.input(self.fits, [w.collection, w.target], [w.summary], **PRIVATE).then(**share)
            w.target.change(self.sizes, [w.target], [w.filters.dimension], **PRIVATE)
        gr.on([w.query.submit, w.ask.click], self.search, question, results, trigger_mode="always_last", **ASKING).then(
            **share
        )
        w.image.change(self.search_if_asked, question, results, trigger_mode="always_last", **ASKING)
        w.chips.click(self.take_chip, None, [w.query], **PRIVATE).then(self.search, question, results, **ASKING).then(
            **share
        )
        # Gradio 6.31 tells no `input` when all that was chosen is taken out at once.
        gr.on(
            [w.filters.files.change, w.filters.types.change, w.filters.dimension.input],
            self.rank_again, [w.asked, *place, *w.filters.widgets], results, trigger_mode="always_last", **ASKING,
        )  # fmt: skip
        w.many.table.click(self.take_chip, None, [w.query], **PRIVATE).then(self.search, question, results, **ASKING)
        score_matrix.connect(self.service, w.many, [w.collection, w.target, *w.filters.widgets])
        w.gallery.click(self.show, [w.asked], [w.detail], **PRIVATE)
        page_regions.connect(self.service, w.detail, [w.asked, w.collection, w.target])

    # Pages

    def add(self, payload: object, collection: str, target: str) -> dict[Any, Any]:
        given, server = uploads(payload), self.service.targets.of(target)
        into = self.service.shelf.make(collection or self.requested())
        self.service.ingestor.start(into.key, given, server)
        self.views.turn(into)
        return {self.w.files: None, self.w.collection: self.choices(into)}

    def add_samples(self, target: str) -> dict[Any, Any]:
        chosen = self.service.targets.of(target)
        into = self.service.shelf.make(self.samples_of(chosen))
        self.service.ingestor.start(into.key, [Upload(path, path.name) for path in sample_files()], chosen)
        return self.fresh(into.key)

    def samples_of(self, target: Target) -> str:
        """The collection of sample pages that takes this server's vectors; nobody is asked to name one."""
        try:
            target.check(self.service.library, self.service.shelf.key(SAMPLES))
        except FingerprintError:
            return f"{SAMPLES} ({target.name})"[:NAME_CHARS]
        except ServingError:
            pass  # the job meets the same, and tells it
        return SAMPLES

    def follow(self, collection: str) -> Iterator[dict[Any, Any]]:
        """What is being added to the collection, each time that changes, until it ends or this page view turns to
        another collection; also for who comes later."""
        ingestor, shown, view = self.service.ingestor, "", self.views.current()
        try:
            found = self.service.shelf.find(collection)
        except ServingError:
            yield gr.skip()  # told by whoever led here
            return
        key = found.key
        if not ingestor.recent(key):
            yield gr.skip()
            return
        while (job := ingestor.active(key)) is not None and not self.views.left(found, view):
            job.finished.wait(TICK_S)
            now = render.render_jobs(ingestor.recent(key))
            if now != shown and not self.views.left(found, view):
                shown = now
                yield {self.w.progress: now, self.w.cancel: gr.update(visible=not job.cancelled.is_set())}
        if self.views.left(found, view):
            yield {self.w.progress: gr.skip()}
            return
        with suppress(CollectionGoneError):  # else it may have another name by now
            collection = self.service.shelf.address(self.service.shelf.find(key))
        yield {**self.panel(collection), self.w.progress: render.render_jobs(ingestor.recent(key))}

    def cancel(self, collection: str) -> None:
        self.service.ingestor.cancel(self.service.shelf.key(collection))

    @property
    def panels(self) -> list[Component]:
        w = self.w
        return [w.progress, w.cancel, w.listing, w.collection, w.chips, w.filters.files, w.filters.types]

    def panel(self, collection: str, *, anew: bool = False) -> dict[Any, Any]:
        """`anew`: another collection than before."""
        catalogue, ingestor, found = self.service.library.catalogue, self.service.ingestor, self.there(collection)
        self.views.turn(found)
        return {
            self.w.progress: render.render_jobs(ingestor.recent(found.key)),
            self.w.cancel: gr.update(visible=ingestor.active(found.key) is not None),
            self.w.listing: render.render_files(catalogue.list_files(found.key), found),
            self.w.collection: self.choices(found),
            self.w.chips: render.render_chips(sample_chips() if found.name.partition(" (")[0] == SAMPLES else []),
            **filters.choices(self.w.filters, catalogue.list_file_names(found.key), anew=anew),
        }

    def fresh(self, collection: str) -> dict[Any, Any]:
        """Another collection, or one that has changed: nothing of what was found before."""
        return {**self.panel(collection, anew=True), **self.left()}

    def left(self) -> dict[Any, Any]:
        return {**self.nothing(), self.w.many.table: "", self.w.many.save: gr.update(visible=False)}

    def choices(self, found: Collection) -> Any:
        shelf = self.service.shelf
        return gr.update(choices=shelf.choices(found, (MINE, SAMPLES)), value=shelf.address(found))

    def there(self, collection: str) -> Collection:
        """Return the collection; one's own pages in place of one that is gone."""
        try:
            return self.service.shelf.find(collection)
        except NotFoundError:
            return self.service.shelf.find(MINE)

    def switch(self, collection: str | None) -> dict[Any, Any]:
        if not collection:  # the list was left before the page had opened
            return {self.w.summary: gr.skip()}
        shelf = self.service.shelf
        try:
            # On a shelf of one's own a name that is typed makes a collection: to be shared, or to move pages to.
            found = shelf.make(collection) if shelf.own else shelf.find(collection)
            if self.views.shows(found, self.views.current()):
                # A list tells its choice also when it is only left: nothing of what was found goes for that.
                return {self.w.summary: gr.skip()}
            return self.fresh(shelf.address(found))
        except ServingError as error:
            told = {**self.left(), self.w.summary: render_error("This name cannot be used", error)}
            with suppress(NotFoundError):  # who cannot be told by anything has no pages of one's own to go to
                told = {**self.panel(MINE, anew=True), **told}
            return told

    def fits(self, collection: str, target: str) -> Any:
        """Whether the server just chosen can rank the collection: told before it is woken."""
        try:
            self.service.targets.of(target).check(self.service.library, self.service.shelf.key(collection))
        except ServingError as error:
            return render_error("This server cannot search this collection", error)
        return gr.skip()

    def sizes(self, target: str) -> Any:
        return filters.sizes(self.service.targets.of(target))

    def delete_file(self, collection: str, event: gr.EventData) -> dict[Any, Any]:
        told = ""
        try:
            key = self.service.shelf.key(collection)
            if event.file:
                self.service.delete_file(key, event.file)
            else:
                self.service.delete_collection(key)
        except ServingError as error:
            told = render_error(NOT_DELETED, error)
        return {**self.panel(collection, anew=not event.file), **self.left(), self.w.summary: told}

    # Asking

    def arrive(self, request: gr.Request) -> dict[Any, Any]:
        """Widgets as the address asks: ?c=collection&q=query&k=top_k&t=target. What it does not name may have been
        used already, and is left alone."""
        asked = dict(request.query_params)
        try:
            collection = self.requested()
        except NotFoundError:
            return {self.w.summary: render.render_notice("Your browser blocks this page's cookie", NO_COOKIE, "error")}
        named: dict[Any, Any] = {}
        if "q" in asked:
            named[self.w.query] = self.asked_for(request)
        if "k" in asked:
            named[self.w.top_k] = str(parse_top_k(asked["k"]))
        if "t" in asked and isinstance(self.w.target, gr.Dropdown):
            named[self.w.target] = self.service.targets.or_first(asked["t"]).name
        if greeting := self.greeting(collection, asked.get("c", "")):
            named[self.w.summary] = greeting
        return {**named, **self.panel(collection)}

    def greeting(self, collection: str, wanted: str) -> Markup:
        if is_key(wanted):
            try:
                self.service.shelf.find(wanted)
            except CollectionGoneError:
                gone = "It was deleted, or the link is incomplete. Your own pages are shown instead."
                return render.render_notice("This collection does not exist", gone, "error")
        return render.NOTHING if self.service.shelf.find(collection).pages else self.welcome

    def requested(self) -> str:
        """The collection in the address of the page that caused this event; else the one last added to."""
        request = LocalContext.request.get(None)
        name = "" if request is None else str(dict(request.query_params).get("c", ""))
        shelf = self.service.shelf
        try:
            return shelf.address(shelf.find(name or shelf.latest() or MINE))
        except ServingError:
            return shelf.address(shelf.find(MINE))

    def take_chip(self, event: gr.EventData) -> str:
        return str(event.query)

    def asked_for(self, request: gr.Request) -> str:
        return str(dict(request.query_params).get("q", ""))[: self.service.settings.max_text_chars]

    def search_addressed(self, request: gr.Request, _: str, *rest: Any) -> Iterator[dict[Any, Any]]:
        """The question that the address names, whatever has been typed since."""
        yield from self.search_if_asked(self.asked_for(request), *rest)

    def search_if_asked(self, query: str, *rest: Any) -> Iterator[dict[Any, Any]]:
        if query.strip() or rest[3]:  # the image
            yield from self.search(query, *rest)
        else:
            yield gr.skip()  # a generator that yields nothing empties its outputs

    def search(
        self, query: str, collection: str, top_k: str, target: str, image: object, weight: object, minimum: object,
        files: object, types: object, dimension: object,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        if not query.strip() and not image:
            advice = "Use words or a sentence, or add an image below the question."
            yield {**self.nothing(), self.w.summary: render.render_notice("Type a question first", advice)}
            return
        try:
            question = parse_question(query, image, weight, minimum, files, types)
        except ServingError as error:
            yield {**self.nothing(), self.w.summary: render_error("The search failed", error)}
            return
        yield self.answer(question, collection, top_k, target, filters.parse_dimension(dimension))

    def answer(
        self, question: Question, collection: str, top_k: str, target: str, dimension: int | None
    ) -> dict[Any, Any]:
        try:
            # Who asks before the page knows its collection asks the one that it opens with.
            key = self.service.shelf.key(collection or self.requested())
            found = self.service.search(question, key, parse_top_k(top_k), dimension, target)
            return self.told(question, found, key, dimension)
        except ServingError as error:
            return {**self.nothing(), self.w.summary: render_error("The search failed", error)}

    def rank_again(
        self,
        asked: LastSearch,
        collection: str,
        top_k: str,
        target: str,
        files: object,
        types: object,
        dimension: object,
    ) -> dict[Any, Any]:
        """Other pages, or fewer numbers, of the question asked last: its vector is known, no model is asked."""
        if not asked.query:
            return {self.w.summary: gr.skip()}
        size = filters.parse_dimension(dimension)
        question = asked.question
        try:
            question = replace(question, of=parse_selection(files, types))
            if (size, question.of) == (asked.dimension, asked.question.of):
                # A dropdown may tell one choice twice: the second would take away which pages have moved.
                return {self.w.summary: gr.skip()}
            key = self.service.shelf.key(collection)
            found = self.service.rank(question, asked.vector, asked.fingerprint, key, parse_top_k(top_k), size)
            was: dict[str, int] = {}
            if question.of == asked.question.of:
                was = filters.find_ranks(self.service, asked, key, asked.dimension)
            return self.told(question, found, key, size, was)
        except ServingError as error:
            # The question is kept: another choice ranks it again.
            kept = replace(asked, question=question, dimension=size, hits=())
            return {**self.nothing(), self.w.summary: render_error("The search failed", error), self.w.asked: kept}

    def told(
        self, question: Question, found: Found, collection: CollectionKey, dimension: int | None,
        was: Mapping[str, int] = render.NO_RANKS,
    ) -> dict[Any, Any]:  # fmt: skip
        """`was`: the ranks that pages had by another number of dimensions. Raises ServingError."""
        catalogue = self.service.library.catalogue
        asked = LastSearch(question, tuple(found.hits), found.query.tobytes(), found.fingerprint, dimension)
        if not found.hits:
            return {**self.nothing(), self.w.summary: explain_no_hits(found, question), self.w.asked: asked}
        first = found.hits[0]
        like = name_page(catalogue.read_page(question.like)) if question.like else ""
        summary = render.render_summary(
            found.hits, catalogue.read_collection(collection), found.timings, found.below, like,
            ranked=None if question.of == ALL_PAGES else found.ranked, dimension=dimension, was=was,
        )  # fmt: skip
        return {
            self.w.summary: summary,
            self.w.gallery: render.render_gallery(found.hits, was),
            self.w.detail: page_regions.render_detail(first, catalogue.read_lines(first.page.id)),
            self.w.asked: asked,
        }

    def show(self, asked: LastSearch, event: gr.EventData) -> Markup:
        """Of the hits shown, as they were found: looking at a page never asks the worker again."""
        hit = next((hit for hit in asked.hits if hit.page.id == event.page), None)
        if hit is None or not self.service.library.pictures.locate_picture(hit.page.id).is_file():
            return render.render_notice("This page is gone", "It was deleted meanwhile. Search again.", "error")
        return page_regions.render_detail(hit, self.service.library.catalogue.read_lines(hit.page.id))

    def act(
        self, asked: LastSearch, collection: str, top_k: str, target: str, event: gr.EventData
    ) -> Iterator[dict[Any, Any]]:
        """What a button beside a page does: others like it, or its deletion."""
        page = str(event.page)
        if event.like:
            like = Question(like=page, minimum=asked.question.minimum, of=asked.question.of)
            yield self.answer(like, collection, top_k, target, asked.dimension)
            return
        try:
            self.service.delete(self.service.shelf.key(collection), [page])
        except ServingError as error:
            yield {**self.panel(collection), **self.nothing(), self.w.summary: render_error(NOT_DELETED, error)}
            return
        yield {**self.panel(collection), **self.left()}
        if asked.question.like != page:
            yield self.answer(asked.question, collection, top_k, target, asked.dimension)

    def nothing(self) -> dict[Any, Any]:
        return {self.w.summary: "", self.w.gallery: "", self.w.detail: "", self.w.asked: LastSearch()}


def render_error(title: str, error: ServingError) -> Markup:
    return render.render_notice(title, error.message, "error")
