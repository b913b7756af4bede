"""What one does with a collection as a whole: share, rename, move files, export, import. Below the list of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from serving.errors import BadValueError, ServingError
from serving.library.records import Collection, Storage
from ui.access.uploads import uploads
from ui.components import results
from ui.components.events import PRIVATE
from ui.components.scripts import read_script
from ui.components.templates import render_template
from ui.components.wording import format_count
from ui.core.background_task import Task
from ui.core.service import Service

Panel = Callable[[str], dict[Any, Any]]
"""What the rest of the page shows of a collection, by widget."""


@dataclass(frozen=True)
class Controls:
    box: gr.Accordion
    about: gr.HTML
    name: gr.Textbox
    named: gr.State
    """What the collection was called when that was put into the box: what somebody types there meanwhile stays."""
    rename: gr.Button
    files: gr.Dropdown
    to: gr.Dropdown
    move: gr.Button
    export: gr.Button
    archive: gr.UploadButton
    stop: gr.Button
    told: gr.HTML


def build(read_only: bool = False) -> Controls:
    if read_only:
        gr.HTML(render_template("pages/read_only.html"))
    with gr.Accordion(
        "Share and export" if read_only else "Share, rename, move, export", open=False, elem_id="keeping"
    ) as box:
        about = gr.HTML(elem_id="about-collection", js_on_load=read_script("copy_link.js"))
        with gr.Group(visible=not read_only):
            name = gr.Textbox(label="Name", max_lines=1, max_length=80, elem_id="collection-name")
            named = gr.State("")
            rename = gr.Button("Rename", size="sm", elem_id="rename")
        with gr.Group(visible=not read_only):
            files = gr.Dropdown([], multiselect=True, label="Files to move", elem_id="move-files")
            to = gr.Dropdown([], label="To", elem_id="move-to")
            move = gr.Button("Move", size="sm", elem_id="move")
        with gr.Row():
            export = gr.Button("Export", size="sm", elem_id="export", min_width=90)
            archive = gr.UploadButton("Import", size="sm", elem_id="import", min_width=90, visible=not read_only)
        told = gr.HTML(elem_id="kept")
        stop = gr.Button("Cancel", visible=False, elem_id="stop-keeping", size="sm", variant="stop")
    return Controls(box, about, name, named, rename, files, to, move, export, archive, stop, told)


class Keeping:
    def __init__(self, service: Service, controls: Controls, collection: gr.Dropdown, panel: Panel) -> None:
        self._service = service
        self._c = controls
        self._collection = collection
        self._panel = panel
        self._tasks: dict[str, Task[Any]] = {}
        """The export or import of each page view."""

    def connect(self, target: Any, panel: list[Any], share: dict[str, Any]) -> None:
        """`panel`: the widgets that `Panel` fills, `share`: the event that puts the collection into the address."""
        c = self._c
        own = [c.about, c.name, c.named, c.files, c.to, c.told]
        c.box.expand(self.fill, [self._collection, c.named], own, **PRIVATE)
        self._collection.change(self.fill, [self._collection, c.named], own, **PRIVATE)
        self._collection.input(lambda: "", None, [c.told], **PRIVATE)
        c.rename.click(self.rename, [self._collection, c.name], [*panel, *own], **PRIVATE).then(**share)
        c.move.click(self.move, [self._collection, c.files, c.to], [*panel, *own], **PRIVATE)
        c.export.click(self.export, [self._collection], [c.told, c.stop], **PRIVATE)
        c.stop.click(self.stop, None, None, **PRIVATE)
        c.archive.upload(
            self.bring_back, [c.archive, self._collection, target], [*panel, *own, c.stop], preprocess=False, **PRIVATE
        ).then(**share)

    def fill(self, collection: str, named: str = "") -> dict[Any, Any]:
        """The controls as they are for this collection. `named`: what it was called before."""
        c, service = self._c, self._service
        try:
            found = service.shelf.find(collection)
            files, address = service.library.catalogue.list_files(found.key), service.shelf.address(found)
            others = [choice for choice in service.shelf.choices(found, ()) if choice[1] != address]
            text = about(found, service.library.measure_storage(found.key))
        except ServingError as error:
            return {c.about: results.render_notice("This collection cannot be shown", error.message, "error")}
        return {
            c.about: text,
            c.name: gr.skip() if found.name == named else found.name,
            c.named: found.name,
            c.files: gr.update(choices=[(file.name, file.sha256) for file in files], value=[]),
            c.to: gr.update(choices=others, value=None),
        }

    def _done(self, collection: str, told: Markup) -> dict[Any, Any]:
        return {**self._panel(collection), **self.fill(collection), self._c.told: told}

    def rename(self, collection: str, name: str) -> dict[Any, Any]:
        try:
            renamed = self._service.library.rename_collection(self._service.shelf.key(collection), name)
        except ServingError as error:
            return {self._c.told: results.render_notice("The collection was not renamed", error.message, "error")}
        return self._done(renamed.key, results.render_notice(f"The collection is now called {renamed.name}"))

    def move(self, collection: str, files: list[str], to: str | None) -> dict[Any, Any]:
        try:
            if not files or not to:
                raise BadValueError("choose files, and a collection to move them to")
            library, key = self._service.library, self._service.shelf.key(collection)
            ids = library.catalogue.list_file_pages(key, files)
            moved = library.move_pages(key, ids, self._service.shelf.key(to))
        except ServingError as error:
            return {self._c.told: results.render_notice("Nothing was moved", error.message, "error")}
        stayed = f"{format_count(len(ids) - len(moved), 'page')} already there" if len(moved) < len(ids) else ""
        return self._done(collection, results.render_notice(f"{format_count(len(moved), 'page')} moved", stayed))

    def export(self, collection: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        try:
            exported = self._service.shelf.find(collection)
            task = Task(lambda step: self._service.export(exported.key, step))
            yield from self._followed(task, "Exporting", request)
            found = task.result()
        except ServingError as error:
            yield self._ended(results.render_notice("The collection was not exported", error.message, "error"))
            return
        file = found.path.name
        yield self._ended(
            render_template("pages/exported.html", file=file, name=exported.name, pages=found.pages, bytes=found.bytes)
        )

    def bring_back(
        self, payload: object, collection: str, target: str, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        try:
            (upload,) = uploads(payload)
            task = Task(lambda step: self._service.bring_back(upload.path, target=target, step=step))
            yield from self._followed(task, "Importing", request)
            made = task.result()
        except ServingError as error:
            yield self._ended(results.render_notice("Nothing was imported", error.message, "error"))
            return
        done = self._done(made.key, results.render_notice(f"{made.name}: {format_count(made.pages, 'page')} imported"))
        yield {**done, self._c.stop: gr.update(visible=False)}

    def _followed(self, task: Task[Any], doing: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        session = request.session_hash or ""
        self._tasks[session] = task
        try:
            for done, total in task.watch():
                yield {self._c.told: results.render_step(doing, done, total), self._c.stop: gr.update(visible=True)}
        finally:
            self._tasks.pop(session, None)

    def _ended(self, told: Markup) -> dict[Any, Any]:
        return {self._c.told: told, self._c.stop: gr.update(visible=False)}

    def stop(self, request: gr.Request) -> None:
        if (task := self._tasks.get(request.session_hash or "")) is not None:
            task.stop()


def about(collection: Collection, storage: Storage) -> Markup:
    return render_template("pages/collection.html", key=collection.key, storage=storage)
