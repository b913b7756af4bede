"""The folder of a library's files on this machine, which one process uses at a time."""

from __future__ import annotations

from pathlib import Path

from serving.library.database import IN_USE, LibraryError
from serving.system.files import lock_file


def make_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises LibraryError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"cannot use the folder {folder}: {error.strerror}") from None


def lock_folder(folder: Path) -> int:
    """Return a descriptor that holds the folder until it is closed or the process ends. Raises LibraryError."""
    try:
        return lock_file(folder / "library.lock")
    except BlockingIOError:
        raise LibraryError(
            f"another process is using the library in {folder}: stop it, or choose another --data folder", code=IN_USE
        ) from None
    except OSError as error:
        raise LibraryError(f"cannot write to the folder {folder}: {error.strerror}") from None
