"""The list of a collection's files: a window of it, sorted and searched on the server.

Ten thousand files as elements keep a browser busy for seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from serving.errors import BadValueError, ServingError
from serving.library.records import Collection, CollectionKey, StoredFile
from ui.components.results import render_error
from ui.components.templates import render_template
from ui.core.service import Service
from ui.search.long_choice import match_words

SHOWN_FILES = 100
FIND_CHARS = 255
NUMBER_CHARS = 20
DIGITS = re.compile(r"(\d+)")
SORTS = ("oldest", "newest", "name", "pages")


@dataclass(frozen=True, slots=True)
class ListView:
    """What a view of the page has chosen in the list."""

    sort: str = "oldest"
    find: str = ""
    page: int = 1
    asked: str = ""
    """The number by which a browser asked for it, which takes it as it is then; else it asks for its own again."""


FIRST_VIEW = ListView()


def parse_view(event: Any) -> ListView:
    """Return the view that an event of the browser names; what is invalid is as in a new view."""
    sort, find, page = str(event.sort), str(event.find)[:FIND_CHARS], str(event.page)
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 9 else 1
    asked = str(getattr(event, "ask", ""))[:NUMBER_CHARS]
    return ListView(sort if sort in SORTS else "oldest", find, max(1, number), asked)


def make_name_key(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts file 9 before file 10."""
    parts = [part for part in DIGITS.split(name.casefold()) if part]
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def find_files(files: Sequence[StoredFile], find: str) -> list[StoredFile]:
    """Return the files that have all words in their names."""
    has_words = match_words(find)
    return [file for file in files if has_words(file.name)]


def sort_files(files: list[StoredFile], by: str) -> None:
    """Sort files, which come in the order they were added."""
    if by == "newest":
        files.reverse()
    elif by == "name":
        files.sort(key=lambda file: make_name_key(file.name))
    elif by == "pages":
        files.sort(key=lambda file: -file.pages)


def render_files(
    key: str, files: Sequence[StoredFile], pages: int, view: ListView, version: str = "", unread: int = 0
) -> Markup:
    """Render a window of the files, which come in the order they were added.

    `version`: of their collection; `unread`: pages whose text is still being read.
    """
    found = find_files(files, view.find) if view.find else list(files)
    sort_files(found, view.sort)
    last = max(1, -(-len(found) // SHOWN_FILES))
    page = min(view.page, last)
    window = found[(page - 1) * SHOWN_FILES : page * SHOWN_FILES]
    return render_template(
        "pages/files.html", key=key, files=window, count=len(files), found=len(found), pages=pages, page=page,
        last=last, view=view, version=version, searchable=len(files) > SHOWN_FILES, unread=unread,
    )  # fmt: skip


class ListedFiles:
    """What the list is asked by a view of the page."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def turn(self, collection: str, event: gr.EventData) -> Markup:
        """Render another part of the list, or another order."""
        try:
            return self.render(self._service.ownership.find(collection), parse_view(event))
        except ServingError as error:
            return render_error("The files cannot be listed", error)

    def render(self, found: Collection, view: ListView) -> Markup:
        """Render the list of a collection as it is now. Raises ServingError."""
        version = self._service.library.changes.version(found.key)  # before its files: what changes then is seen again
        files = self._service.library.catalogue.list_files(found.key)
        unread = self._service.reading.count_left(found.key)
        return render_files(found.key, files, found.pages, view, version, unread)

    def find_named(self, key: CollectionKey, event: gr.EventData) -> list[str]:
        """Return the file that is to be deleted, or those that were found, by sha256.

        Raises BadValueError where others are found by now: nobody deletes what they have not seen.
        """
        if event.file:
            return [str(event.file)]
        if not event.found:
            return []
        found = find_files(self._service.library.catalogue.list_files(key), parse_view(event).find)
        if str(len(found)) != str(event.found):
            raise BadValueError("files were added or deleted meanwhile: look at the list again")
        return [file.sha256 for file in found]
