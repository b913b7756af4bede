"""The address of the page that runs on a data folder, for other programs of the same user.

The file stays when the page has ended or was killed, and another program may have its port by then: so the page holds a
lock on the file, and an address without that lock is not believed. The file is written and locked before it gets its
name: one that is locked is complete, and was written by the process that holds it. Of a page whose collections are in a
store, the file has a salted hash of the store's address as well: only who means this store asks the page.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "page.url"
ADDRESS_BYTES = 1000


@contextmanager
def announce_page(folder: Path, url: str, store: str = "") -> Iterator[None]:
    """Keep the address of this page in the data folder while the block runs. Raises OSError."""
    path, part = folder / FILE, folder / f"{FILE}.{secrets.token_hex(4)}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, "\n".join([url, *([hash_store(store, secrets.token_hex(16))] if store else [])]).encode())
        part.replace(path)
        yield
    finally:
        part.unlink(missing_ok=True)
        os.close(descriptor)


def find_page(folder: Path, store: str = "") -> str:
    """Return the address of the page that runs on this data folder and store now; empty if none is known."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        if os.fstat(descriptor).st_uid != os.geteuid() or not is_locked(descriptor):
            return ""
        url, _, hashed = os.read(descriptor, ADDRESS_BYTES).decode("ascii", "replace").partition("\n")
        expected = hash_store(store, hashed.partition(":")[0]) if store else ""
        return url if hmac.compare_digest(hashed.encode(), expected.encode()) else ""
    finally:
        os.close(descriptor)


def hash_store(store: str, salt: str) -> str:
    return f"{salt}:{hashlib.sha256(f'{salt}:{store}'.encode()).hexdigest()}"


def is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
