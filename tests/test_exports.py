"""A collection out of one library and into another, and zips that only look like one."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving import exports
from serving.database import LibraryError
from serving.errors import BadValueError, NotFoundError, ServingError, TooLargeError, UnreadableError
from serving.exports import export
from serving.imports import bring_back
from serving.library import Library
from serving.pages import Line, encode_thumbnail
from serving.records import NewPage
from serving.settings import Settings
from tests.files import encoded, huge_png, picture
from tests.scripted import unit
from tests.test_library import add, new

FILES = ["a.pdf", "=cmd|'x'!A1", "<img src=x onerror=alert(1)>.png"]
LINES = (Line("Total due 12.00 €", (0.1, 0.2, 0.5, 0.25)), Line("no box"))


def page(number: int, lined: bool = True) -> NewPage:
    image = picture((60, 40 + number), f"{number}")
    vectors = np.stack([unit(line.text, 64) for line in LINES])
    return NewPage(
        file=FILES[number % 3], sha256=f"{number % 3:064x}", page=number // 3 + 1, pages=3,
        width=60, height=40 + number,
        picture=encoded(image, "JPEG"), thumbnail=encode_thumbnail(image), vector=unit(f"page {number}", 64),
        lines=LINES if lined else None, line_vectors=vectors if lined else None,
    )  # fmt: skip


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "library")
    for number in range(6):
        library.add("house", page(number, number % 2 == 0), fingerprint="f1", model="m")
    return library


def anything(_: str) -> None: ...


def changed(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    other = path.with_name("changed.zip")
    with zipfile.ZipFile(other, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return other


def state(library: Library, collection: str) -> list[object]:
    """All that a person sees of it, and its vectors."""
    hits = library.search(collection, unit("page 3", 64), 9, "f1")
    return [
        (
            hit.score, hit.line, hit.page.file, hit.page.page, hit.page.pages, hit.page.width, hit.page.read,
            library.lines(hit.page.id), library.picture(hit.page.id).read_bytes(),
            library.thumbnail(hit.page.id).read_bytes()[:4], library.vector(collection, hit.page.id)[0].tolist(),
        )
        for hit in hits
    ]  # fmt: skip


def test_out_and_in_again_nothing_is_lost(library: Library, tmp_path: Path, limits: Settings) -> None:
    found = export(library, library.collection("house").key, tmp_path / "exports")
    assert found.pages == 6 and found.bytes == found.path.stat().st_size
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [found.path.name]
    other = Library(tmp_path / "other")
    asked: list[str] = []
    made = bring_back(other, found.path, limits, asked.append)
    assert (made.name, made.pages, made.fingerprint, made.model, asked) == ("house", 6, "f1", "m", ["f1"])
    assert state(other, made.key) == state(library, "house")
    assert [hit.page.id for hit in other.search("house", unit("page 3", 64), 1, "f1")] != [
        hit.page.id for hit in library.search("house", unit("page 3", 64), 1, "f1")
    ]
    again = bring_back(library, found.path, limits, anything)
    assert again.name == "house (2)" and again.key != library.collection("house").key
    assert bring_back(library, found.path, limits, anything, "attic").name == "attic"
    with pytest.raises(BadValueError, match="already"):
        bring_back(library, found.path, limits, anything, "attic")


def test_it_is_there_when_it_is_whole_and_not_before(library: Library, tmp_path: Path, limits: Settings) -> None:
    path = export(library, "house", tmp_path / "exports").path
    seen: list[tuple[int, int]] = []

    def step(done: int, total: int) -> None:
        seen.append((done, total))
        assert [(found.name, found.pages) for found in library.collections()] == [("house", 6)]

    assert bring_back(library, path, limits, anything, "attic", step=step).pages == 6
    assert seen == [(n, 6) for n in range(1, 7)]


def test_whoever_watches_can_stop_it(library: Library, tmp_path: Path, limits: Settings) -> None:
    path = export(library, "house", tmp_path / "exports").path
    pictures = sorted(library.pictures.iterdir())

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise InterruptedError(total)

    with pytest.raises(InterruptedError):
        bring_back(library, path, limits, anything, step=stop)
    with pytest.raises(LibraryError):
        export(library, "house", tmp_path / "exports", stop)
    assert [found.name for found in library.collections()] == ["house"]
    assert sorted(library.pictures.iterdir()) == pictures
    assert list((tmp_path / "exports").iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from serving.imports import bring_back
from serving.library import Library
from serving.settings import Settings
step = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == 4 else None
folder = Path(sys.argv[1])
bring_back(Library(folder), Path(sys.argv[2]), Settings(data=folder), lambda fingerprint: None, step=step)
"""


def test_a_kill_in_the_middle_of_an_import_leaves_nothing(library: Library, tmp_path: Path) -> None:
    path = export(library, "house", tmp_path / "exports").path
    other = tmp_path / "other"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(other), str(path)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL and len(list((other / "pages").iterdir())) == 8
    opened = Library(other)
    assert opened.collections() == [] and opened.latest() is None
    assert opened._db.execute("SELECT count(*) FROM pages").fetchone() == (0,)
    add(opened, new(), "fresh", "f1")
    opened.close()
    opened = Library(other)
    assert len(list(opened.pictures.iterdir())) == 2, "pictures of the killed import are left"


def test_other_programs_can_read_it(library: Library, tmp_path: Path) -> None:
    found = export(library, "house", tmp_path / "exports")
    with np.load(found.path) as arrays:
        assert arrays["vectors"].shape == (6, 64) and arrays["line_vectors"].shape == (6, 64)
        assert arrays["vectors"][3] @ unit("page 3", 64) == pytest.approx(1, abs=1e-3)
    with zipfile.ZipFile(found.path) as archive:
        assert archive.testzip() is None
        table = list(csv.DictReader(io.TextIOWrapper(archive.open("pages.csv"), "utf-8")))
        pages = [json.loads(line) for line in archive.open("pages.jsonl")]
        head = json.loads(archive.read("collection.json"))
    assert head == {
        "format": "dormouse-collection", "version": 1, "name": "house", "model": "m", "fingerprint": "f1",
        "dimension": 64, "pages": 6,
    }  # fmt: skip
    assert [row["file"] for row in table[:3]] == [FILES[0], f"'{FILES[1]}", FILES[2]]
    assert [(entry["file"], entry["page"]) for entry in pages] == [(FILES[n % 3], n // 3 + 1) for n in range(6)]
    assert pages[0]["lines"][0] == {"text": LINES[0].text, "box": list(LINES[0].box or ())}


def test_disk_full_leaves_nothing(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exports, "write_vectors", full)  # when the pictures are written already
    with pytest.raises(LibraryError, match="could not be exported: No space left on device"):
        export(library, "house", tmp_path / "exports")
    assert list((tmp_path / "exports").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(exports.os, "fsync", full)
    with pytest.raises(LibraryError, match="Nothing of it was left"):
        export(library, "house", tmp_path / "exports")
    assert list((tmp_path / "exports").iterdir()) == []


def test_disk_that_is_really_full(library: Library, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("wb") as stream:
        exports.write(library, library.collection("house").key, stream, exports.unwatched)
        stream.flush()


def test_pages_that_are_deleted_meanwhile_are_left_out(library: Library, tmp_path: Path, limits: Settings) -> None:
    hit = library.search("house", unit("page 1", 64), 1, "f1")[0]
    library.picture(hit.page.id).unlink()
    found = export(library, "house", tmp_path / "exports")
    assert found.pages == 5
    assert bring_back(Library(tmp_path / "other"), found.path, limits, anything).pages == 5
    library.create("empty")
    empty = export(library, "empty", tmp_path / "exports")
    assert bring_back(library, empty.path, limits, anything).name == "empty (2)"


@pytest.mark.parametrize("name", ["nobody", "c-" + 32 * "0"])
def test_what_is_not_there_cannot_be_exported(library: Library, name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        export(library, name, tmp_path / "exports")


def test_fingerprint_is_asked_about_before_anything_is_made(library: Library, tmp_path: Path, limits: Settings) -> None:
    def refuse(fingerprint: str) -> None:
        raise BadValueError(f"not {fingerprint}")

    found = export(library, "house", tmp_path / "exports")
    other = Library(tmp_path / "other")
    with pytest.raises(BadValueError, match="not f1"):
        bring_back(other, found.path, limits, refuse)
    assert other.collections() == []


def head(**values: object) -> Callable[[dict[str, bytes]], object]:
    def change(files: dict[str, bytes]) -> None:
        files["collection.json"] = json.dumps({**json.loads(files["collection.json"]), **values}).encode()

    return change


def first(**values: object) -> Callable[[dict[str, bytes]], object]:
    def change(files: dict[str, bytes]) -> None:
        entries = [json.loads(line) for line in files["pages.jsonl"].splitlines()]
        entries[-1] = {**entries[-1], **values}
        files["pages.jsonl"] = b"\n".join(json.dumps(entry).encode() for entry in entries)

    return change


def last_picture(data: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda files: files.update({[name for name in files if name.endswith(".jpg")][-1]: data})


def array(values: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)  # type: ignore[arg-type]
    return buffer.getvalue()


BAD: dict[str, tuple[Callable[[dict[str, bytes]], object], type[ServingError], str]] = {
    "no head": (lambda files: files.pop("collection.json"), UnreadableError, "collection.json is missing"),
    "no picture": (lambda f: f.pop([n for n in f if n.endswith(".jpg")][-1]), UnreadableError, "jpg is missing"),
    "no vectors": (lambda files: files.pop("vectors.npy"), UnreadableError, "vectors.npy is missing"),
    "no line vectors": (lambda files: files.pop("line_vectors.npy"), UnreadableError, "line_vectors.npy is missing"),
    "other json": (lambda files: files.update({"collection.json": b"[1]"}), UnreadableError, "no exported collection"),
    "newer": (head(version=2), BadValueError, "newer release"),
    "too many": (head(pages=10**9), UnreadableError, "no exported collection"),
    "fewer": (head(pages=5), UnreadableError, "6 of 5 pages"),
    "other dimension": (head(dimension=65), UnreadableError, r"vectors\.npy cannot be read"),
    "id is a path": (first(id="../../../etc/pas"), UnreadableError, "description"),
    "number": (first(page=0), UnreadableError, "description"),
    "box": (first(lines=[{"text": "x", "box": [0, 0, float("nan"), 1]}]), UnreadableError, "description"),
    "lines": (first(lines=[{"text": "x", "box": None}] * 2_001), TooLargeError, "2000 lines"),
    "text": (first(lines=[{"text": "x" * 10_001, "box": None}]), UnreadableError, "description"),
    "not a picture": (last_picture(b"<html>"), ServingError, "not an image"),
    "bomb": (last_picture(huge_png()), TooLargeError, "megapixels"),
    "NaN": (lambda f: f.update({"vectors.npy": array(np.full((6, 64), np.nan, "<f2"))}), UnreadableError, "no vector"),
    "long": (lambda f: f.update({"vectors.npy": array(np.ones((6, 64), "<f2"))}), UnreadableError, "length 1"),
    "short": (lambda f: f.update({"vectors.npy": f["vectors.npy"][:-8]}), UnreadableError, "ends too early"),
    "header": (
        lambda f: f.update({"vectors.npy": f["vectors.npy"].replace(b"(", b"[", 1)}), UnreadableError, "cannot be read"
    ),
    "pickle": (
        lambda f: f.update({"vectors.npy": array(np.array([{}], dtype=object))}), UnreadableError, "cannot be read"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_was_changed_is_refused_whole(name: str, library: Library, tmp_path: Path, limits: Settings) -> None:
    change, error, words = BAD[name]
    path = changed(export(library, "house", tmp_path / "exports").path, change)
    other = Library(tmp_path / "other")
    with pytest.raises(error, match=words):
        bring_back(other, path, limits, anything)
    assert other.collections() == [] and list(other.pictures.iterdir()) == []


def test_names_in_it_are_only_words(library: Library, tmp_path: Path, limits: Settings) -> None:
    def change(files: dict[str, bytes]) -> None:
        head(name="  x\u202e" + "y" * 300)(files)
        first(file="../../up\u202e/" + "z" * 300 + ".png", sha256="f" * 64)(files)
        files["../../../evil.jpg"] = b"x"

    other = Library(tmp_path / "other")
    path = changed(export(library, "house", tmp_path / "exports").path, change)
    made = bring_back(other, path, limits, anything)
    assert made.name == "x " + "y" * 72 and not list(tmp_path.rglob("evil.jpg"))
    longest = max((file.name for file in other.files(made.key)), key=len)
    assert len(longest) == 255 and longest.startswith("up/zzz") and longest.endswith("…" + "z" * 16 + ".png")


def test_pictures_that_are_no_jpeg_become_one(library: Library, tmp_path: Path, limits: Settings) -> None:
    path = changed(
        export(library, "house", tmp_path / "exports").path, last_picture(encoded(picture((3_000, 30)), "PNG"))
    )
    made = bring_back(library, path, limits, anything)
    ids = [hit.page.id for hit in library.search(made.key, unit("page 5", 64), 9, "f1") if hit.page.width == 2_000]
    assert len(ids) == 1 and library.picture(ids[0]).read_bytes()[:3] == b"\xff\xd8\xff"


def test_storage_is_what_lies_on_the_disk(library: Library) -> None:
    found = library.storage("house")
    pictures = sum(path.stat().st_size for path in library.pictures.iterdir())
    assert (found.pages, found.pictures) == (6, pictures)
    assert found.data >= 6 * 64 * 2 + 3 * 2 * 64 * 2 and found.data < 6_000
    assert found.per_1000 == round((found.pictures + found.data) / 6 * 1000)
    assert library.storage("nobody").per_1000 == 0


def test_export_is_of_one_moment(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that come and go while it is written do not make it contradict itself."""
    real = exports.write_picture
    hits = library.search("house", unit("page 0", 64), 9, "f1")

    def meanwhile(*args: object) -> bool:
        monkeypatch.setattr(exports, "write_picture", real)
        library.add("house", page(7), fingerprint="f1", model="m")
        db = sqlite3.connect(library.folder / "library.db")
        db.execute("DELETE FROM lines WHERE page = ?", [hits[0].page.id])
        db.commit()
        db.close()
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(exports, "write_picture", meanwhile)
    found = export(library, "house", tmp_path / "exports")
    assert found.pages == 6
    with zipfile.ZipFile(found.path) as archive:
        assert sum(len(json.loads(line)["lines"]) for line in archive.open("pages.jsonl")) == 6
    shutil.rmtree(tmp_path / "exports")
