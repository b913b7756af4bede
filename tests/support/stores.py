"""Libraries on each kind of store, so that one test holds for both."""

from __future__ import annotations

from pathlib import Path

from serving.library.library import Library
from serving.library.pictures import PictureFiles
from tests.support.postgres import PostgresServer


class LibraryOpener:
    """Opens libraries on one kind of store, and closes them all in the end."""

    def __init__(self, server: PostgresServer | None) -> None:
        """Each folder's library has a schema of its own on the `server`; None: a file in the folder."""
        self.server = server
        self.schemas: dict[Path, str] = {}
        self._opened: list[Library] = []

    def open(self, folder: Path, **options: object) -> Library:
        """Open the library of a folder, the same as before if there was one."""
        library = Library(folder, address=self.locate(folder), **options)  # type: ignore[arg-type]
        self._opened.append(library)
        return library

    def locate(self, folder: Path) -> str:
        """Return the address of a folder's library, "" where it is in the folder."""
        if self.server is None:
            return ""
        if folder not in self.schemas:
            self.schemas[folder] = self.server.create_schema()
        return self.server.address(self.schemas[folder])

    def open_beside(self, folder: Path, other: Path) -> Library:
        """Open a folder as another machine would that has the store of the `other` one."""
        self.schemas[folder] = self.schemas[other]
        return self.open(folder)

    def close(self) -> None:
        for library in self._opened:
            library.close()


def list_pictures(library: Library) -> set[str]:
    """Return the ids of the pages that have pictures."""
    if not isinstance(library.pictures, PictureFiles):
        return {page_id for (page_id,) in library.database.fetch_all("SELECT page FROM pictures")}
    return {path.name.partition(".")[0] for path in library.pictures.folder.iterdir()}
