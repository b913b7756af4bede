"""The part of the page's API that makes, renames, moves, exports and imports collections."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from serving.errors import BadValueError
from serving.library.records import Collection, StoredFile
from serving.system.display_names import display_path
from ui.access.uploads import parse_uploads
from ui.api.search_api import as_gradio_errors, parse_page_ids
from ui.core.service import Service


class CollectionsApi:
    """The endpoints: one method for each, under its name."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ownership = service.ownership

    def collections(self) -> dict[str, Any]:
        """List your collections. On a page that is open to everybody, those of this browser."""
        return {"collections": [as_json(found) for found in self._ownership.list_own()]}

    def new_collection(self, name: str) -> dict[str, Any]:
        """Create an empty collection. Returns its id, which cannot be guessed: whoever has it may use the collection.

        Args:
            name: 1 to 80 characters
        """
        return as_json(self._service.create_collection(name))

    def rename_collection(self, collection: str, name: str) -> dict[str, Any]:
        """Give a collection another name; its id, and links to it, stay.

        Args:
            collection: its id or name
            name: the new one, 1 to 80 characters
        """
        return as_json(self._service.library.rename_collection(self._ownership.find_key(collection), name))

    def delete_collection(self, collection: str) -> dict[str, Any]:
        """Delete a collection with all its pages.

        Args:
            collection: its id or name
        """
        return {"deleted": self._service.delete_collection(self._ownership.find_key(collection))}

    def collection_files(self, collection: str) -> dict[str, Any]:
        """List the files of a collection, with how many of their pages are in it.

        Args:
            collection: its id or name
        """
        files = self._service.library.catalogue.list_files(self._ownership.find_key(collection))
        return {"files": [file_as_json(found) for found in files]}

    def delete_files(self, collection: str, files: list[str]) -> dict[str, Any]:
        """Delete all pages of files. Returns how many pages were deleted.

        Args:
            collection: its id or name
            files: the files' sha256, as /collection_files returns them
        """
        if not isinstance(files, list):
            raise BadValueError("files is a list of sha256", param="files")
        key = self._ownership.find_key(collection)
        return {"deleted": len(self._service.delete_files(key, [str(file) for file in files]))}

    def rename_files(self, collection: str, files: list[str], names: list[str]) -> dict[str, Any]:
        """Give files other names, which may have folders. Returns how many pages they have.

        Args:
            collection: its id or name
            files: the files' sha256, as /collection_files returns them
            names: one for each
        """
        if not isinstance(files, list) or not isinstance(names, list) or len(files) != len(names):
            raise BadValueError("files is a list of sha256, and names one with a name for each", param="names")
        wanted = {str(file): display_path(name) for file, name in zip(files, names, strict=True)}
        return {"renamed": self._service.library.rename_files(self._ownership.find_key(collection), wanted)}

    def move_pages(self, collection: str, ids: list[str], to: str) -> dict[str, Any]:
        """Move pages into another collection of the same embedder. Pages that are already there stay.

        Args:
            collection: id or name of the collection that has them
            ids: page ids, as /search and /add_pages return them
            to: id or name of the other collection
        """
        wanted = parse_page_ids(ids)
        moved = self._service.library.move_pages(
            self._ownership.find_key(collection), wanted, self._ownership.find_key(to)
        )
        return {"moved": moved, "stayed": [page_id for page_id in wanted if page_id not in moved]}

    def export_collection(self, collection: str) -> dict[str, Any]:
        """Write a collection as one zip: pictures, CSV, JSON and vectors. Returns its address, which works for an hour.

        Args:
            collection: its id or name
        """
        found = self._service.export_collection(self._ownership.find_key(collection))
        return {"url": f"/exports/{found.path.name}", "pages": found.pages, "bytes": found.bytes}

    def import_collection(self, file: gr.FileData, name: str = "", target: str | None = None) -> dict[str, Any]:
        """Import an exported collection as a new one: all of it, or nothing.

        Args:
            file: the uploaded zip
            name: of the new collection; default: the old one's
            target: name of the server that must be able to search it, if there are several; default: the first
        """
        given = parse_uploads(file)
        if len(given) != 1:
            raise BadValueError("file is one uploaded zip", param="file")
        return as_json(self._service.import_collection(given[0].path, str(name or ""), target))


def build(service: Service) -> None:
    endpoints = CollectionsApi(service)
    for function in (
        endpoints.collections, endpoints.new_collection, endpoints.rename_collection, endpoints.delete_collection,
        endpoints.collection_files, endpoints.delete_files, endpoints.rename_files, endpoints.move_pages,
        endpoints.export_collection, endpoints.import_collection,
    ):  # fmt: skip
        api(as_gradio_errors(function), api_name=function.__name__, concurrency_limit=4)


def as_json(found: Collection) -> dict[str, Any]:
    return {"collection": found.key, "name": found.name, "pages": found.pages, "fingerprint": found.fingerprint}


def file_as_json(found: StoredFile) -> dict[str, Any]:
    return {
        "file": found.name, "sha256": found.sha256, "pages": found.pages, "pages_of_file": found.pages_of_file
    }  # fmt: skip
