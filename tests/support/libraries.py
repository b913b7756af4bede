"""Libraries with a few pages in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.documents.page import Line
from serving.library.library import Library
from serving.library.records import CollectionKey, NewPage
from tests.support.scripted import unit

LINES = (Line("Total due 12.00", (0.1, 0.2, 0.5, 0.25)), Line("no box"))


def new(name: str = "a.png", page: int = 1, dimension: int = 64, **values: object) -> NewPage:
    fields: dict[str, object] = {
        "file": name, "sha256": f"sha of {name}", "page": page, "pages": 3, "width": 100, "height": 200,
        "picture": b"jpeg", "thumbnail": b"webp", "vector": unit(f"{name} {page}", dimension), "lines": LINES,
    }  # fmt: skip
    return NewPage(**{**fields, **values})  # type: ignore[arg-type]


def at(library: Library, name: str = "c") -> CollectionKey:
    return library.catalogue.find_collection(name).key


def made(library: Library, name: str = "c") -> CollectionKey:
    return at(library, name) or library.create_collection(name).key


def add(library: Library, page: NewPage, collection: str = "c", fingerprint: str = "f1") -> str:
    return library.add_page(made(library, collection), page, fingerprint=fingerprint, model="m").id


UNKNOWN = CollectionKey("c-" + 32 * "0")

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """By another process, which has a write going on in it."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield
        finally:
            other.stdin.close()
