"""The files that paths on a command line name, with the names and hashes of what is in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from serving.documents.archives import hash_members, is_clutter, is_zip
from serving.errors import BadValueError, ServingError
from serving.settings import Settings
from serving.system.display_names import display_path
from serving.system.files import hash_file
from ui.commands.store import FileToAdd

Skip = Callable[[str, str], None]
"""Called with the name of a file that cannot be read, and the reason."""


def find_files(paths: Sequence[Path], settings: Settings, skip: Skip) -> Iterator[FileToAdd]:
    """Yield each file once, those of folders by name. Raises BadValueError for a path that does not exist."""
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise BadValueError(f"there is no file or folder {path}")
    for path in paths:
        for file, name in walk_path(path, skip):
            if (known := file.resolve()) not in seen:
                seen.add(known)
                try:
                    if not file.is_file():
                        skip(name, "it is no regular file")
                        continue
                    yield FileToAdd(file, name, hash_contents(file, name, settings))
                except OSError as error:
                    skip(name, f"it could not be read: {error.strerror or error}")


def walk_path(path: Path, skip: Skip) -> Iterator[tuple[Path, str]]:
    """Yield (path, name) of a file, or of the files in a folder, whose names begin with the folder's.

    Hidden files, and what operating systems put into folders, are left out; links to folders are not followed.
    """
    if not path.is_dir():
        yield path, display_path(path.name)
        return

    def skip_folder(error: OSError) -> None:
        skip(display_path(error.filename), f"the folder could not be read: {error.strerror}")

    top = path.resolve().name
    for folder, folders, files in os.walk(path, onerror=skip_folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(name for name in files if not is_hidden(name)):
            file = Path(folder, name)
            yield file, display_path(f"{top}/{file.relative_to(path)}")


def is_hidden(name: str) -> bool:
    return name.startswith(".") or is_clutter(name)


def hash_contents(path: Path, name: str, settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return name and sha256 of a file, or of each file in a zip. Raises OSError."""
    if is_zip(path):
        members: list[tuple[str, str]] = []
        with suppress(ServingError):  # whoever adds it finds the same, and says so
            for member, digest in hash_members(path, settings):
                members.append((display_path(f"{name}/{member}"), digest))
        return tuple(members)
    return ((name, hash_file(path)),)
