"""Files that are whole or not there at all, also after a power cut."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

COPY_CHUNK_BYTES = 1024 * 1024
"""At once."""


def write_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Whole or not at all; two writers of one file do not meet. `mode`: at most, before the process's own mask."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def copy_file(source: Path, path: Path) -> None:
    """Whole or not at all, however large; made without links, which not every file system has."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with source.open("rb") as read, part.open("wb") as stream:
            shutil.copyfileobj(read, stream, COPY_CHUNK_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_files(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def lock_file(path: Path) -> int:
    """A descriptor that holds the lock until it is closed or its process ends, however it ends.

    Raises BlockingIOError if another process holds it, OSError if the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
