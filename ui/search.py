"""The Search tab: its widgets and what happens when they are used. What is done is in `service`, how it looks in
`render`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component

from serving.embedders import Vectors
from serving.errors import ServingError
from serving.library import NAME_CHARS, FingerprintError
from serving.records import EVERY, Hit
from ui import filters, matrix, render
from ui.asking import TOP_K, asked_with, named, none_found, selection, shown
from ui.corpus import sample_chips, sample_count, sample_files
from ui.ingest import Job, Upload
from ui.service import Found, Question, Service
from ui.targets import Target
from ui.uploads import uploads

MINE = "my-pages"
SAMPLES = "samples"
TOP_KS = ["4", "8", "12", "20", "50"]
TICK_S = 0.25
"""How often a running job is looked at; the page hears of it only when something changed."""
NO_RANKS: Mapping[str, int] = {}
NOT_DELETED = "The deletion was not kept"

PICK = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-page]');
  if (!card) return;
  element.querySelectorAll('[data-page]').forEach((other) => other.setAttribute('aria-current', other === card));
  window.dormouseChose = true;
  trigger('click', {page: card.dataset.page});
});
watch('value', () => element.querySelector('[data-page]')?.setAttribute('aria-current', 'true'));
"""
DETAIL = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-delete], [data-like]');
  if (button) trigger('click', {page: button.dataset.delete ?? button.dataset.like, like: 'like' in button.dataset});
});
watch('value', () => {
  if (!window.dormouseChose) return;
  window.dormouseChose = false;
  const box = element.getBoundingClientRect();
  if (box.top > window.innerHeight * 0.6 || box.top < 0) element.scrollIntoView({behavior: 'smooth', block: 'start'});
});
"""
CHIP = """
element.addEventListener('click', (event) => {
  const chip = event.target.closest('[data-query]');
  if (chip) trigger('click', {query: chip.dataset.query});
});
"""
FILES = """
element.addEventListener('click', (event) => {
  const file = event.target.closest('[data-file]');
  if (file) trigger('click', {file: file.dataset.file});
  if (event.target.closest('[data-collection]')) trigger('click', {file: ''});
});
"""
SHARE = """
(query, collection, top_k, target) => {
  const url = new URL(window.location);
  const set = (name, value, plain) =>
    value === plain ? url.searchParams.delete(name) : url.searchParams.set(name, value);
  set('c', collection, ''); set('q', query, ''); set('k', String(top_k), '%d'); set('t', target ?? '', '');
  window.history.replaceState(null, '', url);
}
""".replace("%d", str(TOP_K))


@dataclass(frozen=True)
class Asked:
    """What the results shown belong to."""

    question: Question = field(default_factory=Question)
    hits: tuple[Hit, ...] = ()
    query: bytes = field(default=b"", repr=False)
    """The question's vector, fp32, so that it can be ranked again without a model: 10 kB of a session at most."""
    fingerprint: str = ""
    dimension: int | None = None

    @property
    def vector(self) -> Vectors:
        return np.frombuffer(self.query, np.float32)


@dataclass(frozen=True)
class Widgets:
    target: Component
    """Its value is the name of the server that is asked."""
    collection: gr.Dropdown
    files: gr.File
    samples: gr.Button
    progress: gr.HTML
    cancel: gr.Button
    listing: gr.HTML
    query: gr.Textbox
    ask: gr.Button
    top_k: gr.Dropdown
    image: gr.Image
    weight: gr.Slider
    minimum: gr.Slider
    filters: filters.Filters
    many: matrix.Many
    chips: gr.HTML
    summary: gr.HTML
    gallery: gr.HTML
    detail: gr.HTML
    asked: gr.State
    """An `Asked`."""


def build(service: Service, target: Component) -> Widgets:
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290, elem_id="pages-panel"):
            collection = gr.Dropdown(
                [MINE, SAMPLES], value=MINE, label="Collection", allow_custom_value=True, elem_id="collection",
                info="Choose one, or type a new name",
            )  # fmt: skip
            files = gr.File(
                label="Add images and PDFs", file_count="multiple", height=150, elem_id="dropzone", type="filepath",
            )  # fmt: skip
            samples = gr.Button(f"Load the {sample_count()} sample pages", elem_id="samples", size="md")
            progress = gr.HTML(elem_id="progress")
            cancel = gr.Button("Cancel", visible=False, elem_id="cancel", size="sm", variant="stop")
            listing = gr.HTML(elem_id="files", js_on_load=FILES)
        with gr.Column(scale=4, min_width=320, elem_id="ask-panel"):
            with gr.Row(elem_id="ask-row"):
                query = gr.Textbox(
                    label="Ask", placeholder="What do you want to find?  ( / )", elem_id="ask", scale=6, autofocus=True,
                    max_length=service.limits.max_text_chars, lines=1, max_lines=3, min_width=220,
                )  # fmt: skip
                top_k = gr.Dropdown(
                    TOP_KS, value=str(TOP_K), label="Pages to show", allow_custom_value=True, elem_id="top-k",
                    min_width=120, scale=1,
                )  # fmt: skip
                ask = gr.Button("Search", variant="primary", elem_id="search", min_width=110, scale=1)
            with gr.Accordion("Search with an image, above a score, or in some files", open=False, elem_id="refine"):
                with gr.Row():
                    image = gr.Image(
                        label="Image", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=190,
                        elem_id="ask-image", buttons=[], min_width=240,
                    )  # fmt: skip
                    with gr.Column(min_width=240):
                        weight = gr.Slider(
                            0, 100, value=50, step=5, label="Share of the image, %", elem_id="weight",
                            info="Where words stand beside it",
                        )  # fmt: skip
                        minimum = gr.Slider(
                            0, 1, value=0, step=0.01, label="Minimum score", elem_id="minimum",
                            info="Pages below are hidden and counted; 0 shows all",
                        )  # fmt: skip
                narrowed = filters.build()
            many = matrix.build(service)
            chips = gr.HTML(elem_id="chips", js_on_load=CHIP)
            summary = gr.HTML(elem_id="summary")
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=300):
                    gallery = gr.HTML(elem_id="gallery", js_on_load=PICK)
                with gr.Column(scale=2, min_width=300):
                    detail = gr.HTML(elem_id="detail", js_on_load=DETAIL)
    asked = gr.State(Asked())
    widgets = Widgets(
        target, collection, files, samples, progress, cancel, listing, query, ask, top_k, image, weight,
        minimum, narrowed, many, chips, summary, gallery, detail, asked,
    )  # fmt: skip
    Events(service, widgets).connect()
    return widgets


class Events:
    """One method for each thing that can happen; each returns what changes, by widget."""

    def __init__(self, service: Service, widgets: Widgets) -> None:
        self.service = service
        self.w = widgets
        self.welcome = render.welcome(all(target.local for target in service.targets))

    def connect(self) -> None:
        w = self.w
        panel = [w.progress, w.cancel, w.listing, w.collection, w.chips, w.filters.files, w.filters.types]
        results = [w.summary, w.gallery, w.detail, w.asked]
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        place = [w.collection, w.top_k, w.target]
        question = [w.query, *place, w.image, w.weight, w.minimum, *w.filters.widgets]
        share: dict[str, Any] = {"fn": None, "inputs": [w.query, *place], "js": SHARE, "api_visibility": "private"}
        # As the browser sent it: a file that is no image is told by us, and not decoded before its size is known.
        asking: dict[str, Any] = {**hidden, "preprocess": False}
        choice = [w.target] if isinstance(w.target, gr.Dropdown) else []
        w.files.upload(self.add, [w.files, w.collection, w.target], [w.files, *panel], preprocess=False, **hidden)
        w.samples.click(self.add_samples, [w.target], [*panel, *results], **hidden)
        w.cancel.click(self.cancel, [w.collection], None, **hidden)
        w.collection.input(self.switch, [w.collection], [*panel, *results], **hidden).then(**share)
        if isinstance(w.target, gr.Dropdown):
            # What another server ranked goes at once, in the browser: an answer from here could come after a search's.
            w.target.input(None, None, results[:3], js="() => ['', '', '']", api_visibility="private")
            w.target.input(self.fits, [w.collection, w.target], [w.summary], **hidden).then(**share)
            w.target.change(self.sizes, [w.target], [w.filters.dimension], **hidden)
        w.listing.click(self.delete_file, [w.collection], [*panel, *results], **hidden)
        gr.on([w.query.submit, w.ask.click], self.search, question, results, trigger_mode="always_last", **asking).then(
            **share
        )
        w.image.change(self.search_if_asked, question, results, trigger_mode="always_last", **asking)
        w.chips.click(self.take_chip, None, [w.query], **hidden).then(self.search, question, results, **asking).then(
            **share
        )
        gr.on(
            [w.filters.files.input, w.filters.types.input, w.filters.dimension.input],
            self.rank_again, [w.asked, *place, *w.filters.widgets], results, trigger_mode="always_last", **asking,
        )  # fmt: skip
        w.many.table.click(self.take_chip, None, [w.query], **hidden).then(self.search, question, results, **asking)
        matrix.connect(self.service, w.many, [w.collection, w.target, *w.filters.widgets])
        w.gallery.click(self.show, [w.asked], [w.detail], **hidden)
        w.detail.click(self.act, [w.asked, *place], [*panel, *results], **hidden)
        start = gr.context.Context.root_block
        assert start is not None
        start.load(self.arrive, None, [w.query, w.top_k, *panel, w.summary, *choice], **hidden).then(
            self.search_if_asked, question, results, **asking
        ).then(**share)
        start.load(self.follow_on_arrival, None, [*panel[:3], *panel[5:]], **hidden)
        start.load(self.sizes, [w.target], [w.filters.dimension], **hidden)

    # Pages

    def add(self, payload: object, collection: str, target: str) -> Iterator[dict[Any, Any]]:
        job = self.service.ingestor.start(collection or MINE, uploads(payload), self.service.targets.of(target))
        yield {self.w.files: None}
        yield from self.follow(job)
        yield self.panel(job.collection, job)

    def add_samples(self, target: str) -> Iterator[dict[Any, Any]]:
        chosen = self.service.targets.of(target)
        name = self.samples_of(chosen)
        job = self.service.ingestor.start(name, [Upload(path, path.name) for path in sample_files()], chosen)
        yield {self.w.collection: self.choices(name), **self.nothing(), self.w.chips: render.chips(sample_chips())}
        yield from self.follow(job)
        yield self.panel(name, job)

    def samples_of(self, target: Target) -> str:
        """The collection of sample pages that takes this server's vectors; nobody is asked to name one."""
        try:
            target.check(self.service.library, SAMPLES)
        except FingerprintError:
            return f"{SAMPLES} ({target.name})"[:NAME_CHARS]
        except ServingError:
            pass  # the job meets the same, and tells it
        return SAMPLES

    def follow(self, job: Job) -> Iterator[dict[Any, Any]]:
        """What the job looks like each time that changes, until it ends."""
        shown = ""
        while not job.finished.wait(TICK_S):
            now = render.progress(job)
            if now != shown:
                shown = now
                yield {self.w.progress: now, self.w.cancel: gr.update(visible=not job.cancelled.is_set())}

    def follow_on_arrival(self, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """A page that is opened or reloaded while a job runs shows that job."""
        collection = self.requested(request)
        job = self.service.ingestor.active(collection)
        if job is None:
            yield gr.skip()
        else:
            yield from self.follow(job)
            panel = self.panel(collection, job)
            told = self.w.progress, self.w.cancel, self.w.listing, self.w.filters.files, self.w.filters.types
            yield {widget: panel[widget] for widget in told}

    def cancel(self, collection: str) -> None:
        self.service.ingestor.cancel(collection)

    def panel(self, collection: str, job: Job | None = None, *, anew: bool = False) -> dict[Any, Any]:
        """`anew`: another collection than before."""
        library = self.service.library
        return {
            self.w.progress: render.progress(job),
            self.w.cancel: gr.update(visible=job is not None and not job.finished.is_set()),
            self.w.listing: render.files(library.files(collection), library.collection(collection)),
            self.w.collection: self.choices(collection),
            self.w.chips: render.chips(sample_chips() if collection.partition(" (")[0] == SAMPLES else []),
            **filters.choices(self.w.filters, library.names(collection), anew=anew),
        }

    def choices(self, collection: str) -> Any:
        names = {MINE, SAMPLES, collection, *(found.name for found in self.service.library.collections())}
        return gr.update(choices=sorted(names), value=collection)

    def switch(self, collection: str) -> dict[Any, Any]:
        try:
            return {**self.panel(collection, self.service.ingestor.active(collection), anew=True), **self.nothing()}
        except ServingError as error:
            return {
                **self.panel(MINE, anew=True),
                **self.nothing(),
                self.w.summary: failed("This name cannot be used", error),
            }

    def fits(self, collection: str, target: str) -> Any:
        """Whether the server just chosen can rank the collection: told before it is woken."""
        try:
            self.service.targets.of(target).check(self.service.library, collection)
        except ServingError as error:
            return failed("This server cannot search this collection", error)
        return gr.skip()

    def sizes(self, target: str) -> Any:
        return filters.sizes(self.service.targets.of(target))

    def delete_file(self, collection: str, event: gr.EventData) -> dict[Any, Any]:
        told = ""
        try:
            if event.file:
                self.service.library.delete_file(collection, event.file)
            else:
                self.service.library.delete_collection(collection)
        except ServingError as error:
            told = failed(NOT_DELETED, error)
        return {**self.panel(collection), **self.nothing(), self.w.summary: told}

    # Asking

    def arrive(self, request: gr.Request) -> dict[Any, Any]:
        """Widgets as the address asks: ?c=collection&q=query&k=top_k&t=target."""
        asked = dict(request.query_params)
        chosen = self.service.targets.or_first(asked.get("t"))
        collection = self.requested(request)
        panel = self.panel(collection, self.service.ingestor.active(collection))
        return {
            self.w.query: asked.get("q", "")[: self.service.limits.max_text_chars],
            self.w.top_k: str(shown(asked.get("k"))),
            **panel,
            **({self.w.target: chosen.name} if isinstance(self.w.target, gr.Dropdown) else {}),
            self.w.summary: "" if self.service.library.collection(collection).pages else self.welcome,
        }

    def requested(self, request: gr.Request) -> str:
        """The collection in the address; else the one last added to."""
        name = dict(request.query_params).get("c", "")
        try:
            return self.service.library.collection(name).name if name else self.service.library.latest() or MINE
        except ServingError:
            return MINE

    def take_chip(self, event: gr.EventData) -> str:
        return str(event.query)

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
            advice = "Words, or a sentence. Or drop in an image, below the question."
            yield {**self.nothing(), self.w.summary: render.notice("Type a question first", advice)}
            return
        try:
            question = asked_with(query, image, weight, minimum, files, types)
        except ServingError as error:
            yield {**self.nothing(), self.w.summary: failed("The search did not work", error)}
            return
        yield self.answer(question, collection, top_k, target, filters.size(dimension))

    def answer(
        self, question: Question, collection: str, top_k: str, target: str, dimension: int | None
    ) -> dict[Any, Any]:
        try:
            found = self.service.search(question, collection, shown(top_k), dimension, target)
            return self.told(question, found, collection, dimension)
        except ServingError as error:
            return {**self.nothing(), self.w.summary: failed("The search did not work", error)}

    def rank_again(
        self, asked: Asked, collection: str, top_k: str, target: str, files: object, types: object, dimension: object
    ) -> dict[Any, Any]:
        """Other pages, or fewer numbers, of the question asked last: its vector is known, no model is asked."""
        if not asked.query:
            return {self.w.summary: gr.skip()}
        size = filters.size(dimension)
        try:
            question = replace(asked.question, of=selection(files, types))
            found = self.service.rank(question, asked.vector, asked.fingerprint, collection, shown(top_k), size)
            was: dict[str, int] = {}
            if size != asked.dimension and question.of == asked.question.of:
                was = filters.ranks(self.service, asked, collection, asked.dimension)
            return self.told(question, found, collection, size, was)
        except ServingError as error:
            return {**self.nothing(), self.w.summary: failed("The search did not work", error)}

    def told(
        self, question: Question, found: Found, collection: str, dimension: int | None,
        was: Mapping[str, int] = NO_RANKS,
    ) -> dict[Any, Any]:  # fmt: skip
        """`was`: the ranks that pages had by another number of dimensions. Raises ServingError."""
        library = self.service.library
        asked = Asked(question, tuple(found.hits), found.query.tobytes(), found.fingerprint, dimension)
        if not found.hits:
            return {**self.nothing(), self.w.summary: none_found(found, question), self.w.asked: asked}
        first = found.hits[0]
        like = named(library.page(question.like)) if question.like else ""
        summary = render.summary(
            found.hits, library.collection(collection), found.timings, found.below, like,
            ranked=None if question.of == EVERY else found.ranked, dimension=dimension, was=was,
        )  # fmt: skip
        return {
            self.w.summary: summary,
            self.w.gallery: render.gallery(found.hits, was),
            self.w.detail: render.detail(first, library.lines(first.page.id)),
            self.w.asked: asked,
        }

    def show(self, asked: Asked, event: gr.EventData) -> str:
        """Of the hits shown, as they were found: looking at a page never asks the worker again."""
        hit = next((hit for hit in asked.hits if hit.page.id == event.page), None)
        if hit is None or not self.service.library.picture(hit.page.id).is_file():
            return render.notice("This page is gone", "It was deleted meanwhile. Search again.", "error")
        return render.detail(hit, self.service.library.lines(hit.page.id))

    def act(
        self, asked: Asked, collection: str, top_k: str, target: str, event: gr.EventData
    ) -> Iterator[dict[Any, Any]]:
        """What a button beside a page does: others like it, or its deletion."""
        page = str(event.page)
        if event.like:
            like = Question(like=page, minimum=asked.question.minimum, of=asked.question.of)
            yield self.answer(like, collection, top_k, target, asked.dimension)
            return
        try:
            self.service.delete(collection, [page])
        except ServingError as error:
            yield {**self.panel(collection), **self.nothing(), self.w.summary: failed(NOT_DELETED, error)}
            return
        yield {**self.panel(collection), **self.nothing()}
        if asked.question.like != page:
            yield self.answer(asked.question, collection, top_k, target, asked.dimension)

    def nothing(self) -> dict[Any, Any]:
        return {self.w.summary: "", self.w.gallery: "", self.w.detail: "", self.w.asked: Asked()}


def failed(title: str, error: ServingError) -> str:
    return render.notice(title, error.message, "error")
