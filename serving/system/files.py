"""Files that are whole or absent, also after a power cut."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

COPY_CHUNK_BYTES = 1024 * 1024


@contextmanager
def open_replacement(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yield a stream whose content replaces the file, whole or not at all; two writers of one file do not collide.

    `mode` is reduced by the umask. Makes no links, which not every file system has.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    with open_replacement(path, mode) as stream:
        stream.write(data)


def copy_file(source: Path, path: Path) -> None:
    with source.open("rb") as read, open_replacement(path) as stream:
        shutil.copyfileobj(read, stream, COPY_CHUNK_BYTES)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name, or make a copy where links cannot be made; it survives a power cut. Raises OSError."""
    try:
        os.link(source, target)
    except (OSError, AttributeError):
        copy_file(source, target)
    else:
        sync_file(target)


def hash_file(path: Path) -> str:
    """Return the sha256 of a file. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    sync_file(folder)


def find_package_file(package: str, name: str) -> Path | None:
    """Return where an installed package's file should be; None without the package, which is not imported."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / name


def remove_files(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def file_stamp(path: Path) -> str:
    """Return a text that changes with the file's content: a writer cannot set the time of change back."""
    stat = path.stat()
    return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def lock_file(path: Path) -> int:
    """Lock a file; return a descriptor that holds the lock until it is closed or its process ends in any way.

    Raises BlockingIOError if another process holds it, OSError if the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
