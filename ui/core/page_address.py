"""The address of the page that runs on a data folder, for other programs of the same user.

The file stays when the page has ended or was killed, and another program may have its port by then: so the page holds a
lock on the file, and an address without that lock is not believed. The file is written and locked before it gets its
name: one that is locked is complete, and was written by the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "page.url"
ADDRESS_BYTES = 1000


@contextmanager
def announce_page(folder: Path, url: str) -> Iterator[None]:
    """Keep the address of this page in the data folder while the block runs. Raises OSError."""
    path, part = folder / FILE, folder / f"{FILE}.{secrets.token_hex(4)}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, url.encode())
        part.replace(path)
        yield
    finally:
        part.unlink(missing_ok=True)
        os.close(descriptor)


def find_page(folder: Path) -> str:
    """Return the address of the page that runs on this data folder now; empty if none is known."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        if os.fstat(descriptor).st_uid != os.geteuid() or not is_locked(descriptor):
            return ""
        return os.read(descriptor, ADDRESS_BYTES).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
