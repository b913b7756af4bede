"""The part of the page's API that makes, renames, moves, exports and imports collections."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from serving.errors import BadValueError
from serving.library.records import Collection
from ui.access.uploads import uploads
from ui.api.search_api import page_ids, spoken
from ui.core.service import Service


def build(service: Service) -> None:
    """Adds the endpoints to the Blocks that are being built."""
    shelf, library = service.shelf, service.library

    def collections() -> dict[str, Any]:
        """The collections of whoever asks. On a page that is open to everybody: those of this browser."""
        return {"collections": [told(found) for found in shelf.mine()]}

    def new_collection(name: str) -> dict[str, Any]:
        """Make an empty collection. Answers its id: whoever has that may use the collection, and nobody can guess it.

        Args:
            name: what it is called, 1 to 80 characters
        """
        return told(service.create(name))

    def rename_collection(collection: str, name: str) -> dict[str, Any]:
        """Give a collection another name; its id, and links to it, stay.

        Args:
            collection: its id or name
            name: the new one, 1 to 80 characters
        """
        return told(library.rename_collection(shelf.key(collection), name))

    def delete_collection(collection: str) -> dict[str, Any]:
        """Delete a collection with all its pages.

        Args:
            collection: its id or name
        """
        return {"deleted": service.delete_collection(shelf.key(collection))}

    def move_pages(collection: str, ids: list[str], to: str) -> dict[str, Any]:
        """Move pages into another collection of the same embedder. Those that are there already stay.

        Args:
            collection: id or name of the collection that has them
            ids: page ids, as /search and /add_pages answer them
            to: id or name of the other collection
        """
        wanted = page_ids(ids)
        moved = library.move_pages(shelf.key(collection), wanted, shelf.key(to))
        return {"moved": moved, "stayed": [page_id for page_id in wanted if page_id not in moved]}

    def export_collection(collection: str) -> dict[str, Any]:
        """Write a collection as one zip: pictures, CSV, JSON and vectors. Answers where it can be fetched for an hour.

        Args:
            collection: its id or name
        """
        found = service.export(shelf.key(collection))
        return {"url": f"/exports/{found.path.name}", "pages": found.pages, "bytes": found.bytes}

    def import_collection(file: gr.FileData, name: str = "", target: str | None = None) -> dict[str, Any]:
        """Bring back an exported collection as a new one: all of it, or nothing.

        Args:
            file: the uploaded zip
            name: of the new collection; left out, the old one's
            target: name of the server that must be able to search it, where the page has several; left out, the first
        """
        given = uploads(file)
        if len(given) != 1:
            raise BadValueError("file is one uploaded zip", param="file")
        return told(service.bring_back(given[0].path, str(name or ""), target))

    for function in (
        collections, new_collection, rename_collection, delete_collection, move_pages, export_collection,
        import_collection,
    ):  # fmt: skip
        api(spoken(function), api_name=function.__name__, concurrency_limit=4)


def told(found: Collection) -> dict[str, Any]:
    return {"collection": found.key, "name": found.name, "pages": found.pages, "fingerprint": found.fingerprint}
