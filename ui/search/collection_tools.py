"""What one does with a collection as a whole: share, rename, move files, export, import. Below the list of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from serving.errors import BadValueError, ServingError
from ui.access.uploads import parse_uploads
from ui.components.events import PRIVATE, read_script
from ui.components.results import render_error, render_notice, render_step
from ui.components.templates import render_template
from ui.components.wording import format_count
from ui.core.background_task import BackgroundTask
from ui.core.service import Service
from ui.search.long_choice import Choices, LongChoice

Updates = dict[Any, Any]
"""New values by widget."""
Show = Callable[[str], Updates]


class CollectionTools:
    """The widgets, made within the block that is being built, and their events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tasks: dict[str, BackgroundTask[Any]] = {}
        """The export or import of each page view."""
        read_only = service.settings.read_only
        if read_only:
            gr.HTML(render_template("pages/read_only.html"))
        title = "Share and export" if read_only else "Share, rename, move, export"
        with gr.Accordion(title, open=False, elem_id="keeping") as self._box:
            self._about = gr.HTML(elem_id="about-collection", js_on_load=read_script("copy_link.js"))
            with gr.Group(visible=not read_only):
                self._name = gr.Textbox(label="Name", max_lines=1, max_length=80, elem_id="collection-name")
                # The name that was last put into the box: what somebody types there meanwhile stays.
                self._filled_name = gr.State("")
                self._rename = gr.Button("Rename", size="sm", elem_id="rename")
            with gr.Group(visible=not read_only):
                self._files = gr.Dropdown([], multiselect=True, label="Files to move", elem_id="move-files")
                self._long_files = LongChoice(self._files, "files", self._list_files)
                self._to = gr.Dropdown([], label="To", elem_id="move-to")
                self._move = gr.Button("Move", size="sm", elem_id="move")
            with gr.Row():
                self._export = gr.Button("Export", size="sm", elem_id="export", min_width=90)
                self._archive = gr.UploadButton(
                    "Import", size="sm", elem_id="import", min_width=90, visible=not read_only
                )
            self._outcome = gr.HTML(elem_id="kept")
            self._stop = gr.Button("Cancel", visible=False, elem_id="stop-keeping", size="sm", variant="stop")

    def connect(self, collection: gr.Dropdown, target: Component, show: Show, shown: list[Any]) -> None:
        """Connect the events. `show` returns what the page shows of a collection, in the widgets `shown`."""
        self._show = show
        own = [self._about, self._name, self._filled_name, self._files, self._to, self._outcome]
        self._box.expand(self.fill, [collection, self._filled_name], own, **PRIVATE)
        collection.change(self.fill, [collection, self._filled_name], own, **PRIVATE)
        collection.input(lambda: "", None, [self._outcome], **PRIVATE)
        self._long_files.connect(collection)
        self._rename.click(self.rename_collection, [collection, self._name], [*shown, *own], **PRIVATE)
        # Choices that were typed for are not those that the server has of this view: they are not checked against them.
        moving: dict[str, Any] = {"preprocess": False, **PRIVATE}
        self._move.click(self.move_files, [collection, self._files, self._to], [*shown, *own], **moving)
        self._export.click(self.export_collection, [collection], [self._outcome, self._stop], **PRIVATE)
        self._stop.click(self.stop_task, None, None, **PRIVATE)
        self._archive.upload(
            self.import_collection, [self._archive, target], [*shown, *own, self._stop], preprocess=False, **PRIVATE
        )

    def fill(self, collection: str, filled_name: str = "") -> Updates:
        """Return the widgets for this collection; its name only if it is not `filled_name`."""
        service = self._service
        try:
            found = service.ownership.find(collection)
            files, address = service.library.catalogue.list_files(found.key), service.ownership.address_of(found)
            others = [choice for choice in service.ownership.list_choices(found, ()) if choice[1] != address]
            storage = service.library.measure_storage(found.key)
        except ServingError as error:
            return {self._about: render_error("This collection cannot be shown", error)}
        return {
            self._about: render_template("pages/collection.html", key=found.key, storage=storage),
            self._name: gr.skip() if found.name == filled_name else found.name,
            self._filled_name: found.name,
            self._files: gr.update(**self._long_files.offer([(file.name, file.sha256) for file in files]), value=[]),
            self._to: gr.update(choices=others, value=None),
        }

    def _list_files(self, collection: str) -> Choices:
        files = self._service.library.catalogue.list_files(self._service.ownership.find_key(collection))
        return [(file.name, file.sha256) for file in files]

    def rename_collection(self, collection: str, name: str) -> Updates:
        try:
            renamed = self._service.library.rename_collection(self._service.ownership.find_key(collection), name)
        except ServingError as error:
            return {self._outcome: render_error("The collection was not renamed", error)}
        return self._show_changed(renamed.key, f"The collection is now called {renamed.name}")

    def move_files(self, collection: str, chosen: object, to: object) -> Updates:
        files = [str(file) for file in chosen] if isinstance(chosen, list) else []
        try:
            if not files or not isinstance(to, str) or not to:
                raise BadValueError("choose files, and a collection to move them to")
            library, key = self._service.library, self._service.ownership.find_key(collection)
            ids = library.catalogue.list_file_pages(key, files)
            moved = library.move_pages(key, ids, self._service.ownership.find_key(to))
        except ServingError as error:
            return {self._outcome: render_error("Nothing was moved", error)}
        stayed = len(ids) - len(moved)
        already = f"{format_count(stayed, 'page')} already in that collection" if stayed else ""
        return self._show_changed(collection, f"{format_count(len(moved), 'page')} moved", already)

    def _show_changed(self, collection: str, title: str, text: str = "") -> Updates:
        return {**self._show(collection), **self.fill(collection), self._outcome: render_notice(title, text)}

    def export_collection(self, collection: str, request: gr.Request) -> Iterator[Updates]:
        try:
            exported = self._service.ownership.find(collection)
            task = BackgroundTask(lambda step: self._service.export_collection(exported.key, step))
            yield from self._follow_task(task, "Exporting", request)
            found = task.result()
            outcome = render_template(
                "pages/exported.html", file=found.path.name, name=exported.name, pages=found.pages, bytes=found.bytes
            )
        except ServingError as error:
            outcome = render_error("The collection was not exported", error)
        yield {self._outcome: outcome, self._stop: gr.update(visible=False)}

    def import_collection(self, payload: object, target: str, request: gr.Request) -> Iterator[Updates]:
        try:
            (upload,) = parse_uploads(payload)
            task = BackgroundTask(lambda step: self._service.import_collection(upload.path, target=target, step=step))
            yield from self._follow_task(task, "Importing", request)
            made = task.result()
        except ServingError as error:
            done = {self._outcome: render_error("Nothing was imported", error)}
        else:
            done = self._show_changed(made.key, f"{made.name}: {format_count(made.pages, 'page')} imported")
        yield {**done, self._stop: gr.update(visible=False)}

    def _follow_task(self, task: BackgroundTask[Any], doing: str, request: gr.Request) -> Iterator[Updates]:
        session = request.session_hash or ""
        self._tasks[session] = task
        try:
            for done, total in task.follow_progress():
                yield {self._outcome: render_step(doing, done, total), self._stop: gr.update(visible=True)}
        finally:
            self._tasks.pop(session, None)

    def stop_task(self, request: gr.Request) -> None:
        if (task := self._tasks.get(request.session_hash or "")) is not None:
            task.stop()
