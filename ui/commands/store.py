"""What the commands need of the collections, wherever these are: on a running page, or in a data folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.library.exporting import Progress
from serving.library.records import Collection, CollectionKey, StoredFile


@dataclass(frozen=True, slots=True)
class FileToAdd:
    """A file on this disk, and the name that its pages get."""

    path: Path
    name: str
    contents: tuple[tuple[str, str], ...]
    """Name and sha256 of what is in it: itself, or the files of a zip. Empty for a zip that cannot be opened."""


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A search result."""

    rank: int
    score: float
    id: str
    file: str
    page: int
    line: str | None
    """The line that answers best, where the embedder reads lines."""


@dataclass(frozen=True, slots=True)
class AddProgress:
    """How far an addition is, in pages or, where their number is not known, in files."""

    done: int
    total: int
    unit: str
    pages_per_minute: float | None = None
    seconds_left: float | None = None


class AddObserver(Protocol):
    """Is told of an addition while it goes on."""

    def add_page(self, file: str, page: int, page_id: str) -> None:
        """Take a page that survives a power cut."""

    def skip_file(self, file: str, reason: str, *, known: bool) -> None:
        """Take a file or page that was not added. `known`: it is in the collection already."""

    def leave_files(self, number: int) -> None:
        """Take that Ctrl-C leaves so many files to the page, which still adds them."""

    def show_progress(self, progress: AddProgress) -> None: ...


class CollectionStore(Protocol):
    """Collections by their keys. Everything raises ServingError with what to do."""

    def list_collections(self) -> list[Collection]: ...

    def create_collection(self, name: str) -> Collection: ...

    def list_files(self, key: CollectionKey) -> list[StoredFile]: ...

    def add_files(self, key: CollectionKey, files: Sequence[FileToAdd], observer: AddObserver) -> None:
        """Add files. When it ends, however it ends, the observer knows every page that it has added."""

    def rename_files(self, key: CollectionKey, names: Mapping[str, str]) -> None:
        """Give files, known by their sha256, other names."""

    def search(self, key: CollectionKey, question: str, top_k: int) -> list[FoundPage]: ...

    def delete_files(self, key: CollectionKey, files: Sequence[str]) -> int:
        """Delete files, given by their sha256. Returns how many pages they had."""

    def delete_collection(self, key: CollectionKey) -> int:
        """Delete a collection. Returns how many pages it had."""

    def export_collection(self, key: CollectionKey, path: Path, step: Progress) -> int:
        """Write a collection as a zip, which replaces the file at `path`. Returns how many pages it has."""

    def import_collection(self, path: Path, name: str, step: Progress) -> Collection:
        """Import an exported collection as a new one. Without a name it gets that of the export."""

    def close(self) -> None: ...
