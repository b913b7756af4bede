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
from PIL import Image

from serving.documents.archives import DIRECTORY_BYTES
from serving.documents.page import Line
from serving.errors import BadValueError, ServingError, TooLargeError, UnreadableError
from serving.library import exporting, importing
from serving.library.catalogue import CollectionGoneError
from serving.library.database import LibraryError
from serving.library.exporting import export_collection
from serving.library.importing import import_collection
from serving.library.library import Library
from serving.library.records import ABSENT, CollectionKey
from serving.settings import Settings
from tests.support.exported_pages import FILES, LINES, page
from tests.support.files import encoded, huge_png, picture
from tests.support.libraries import add, at, made, new
from tests.support.scripted import unit
from tests.support.volumes import Container


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "library")
    for number in range(6):
        library.add_page(made(library, "house"), page(number, number % 2 == 0), fingerprint="f1", model="m")
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


def state(library: Library, collection: CollectionKey) -> list[object]:
    """All that a person sees of it, and its vectors."""
    hits = library.ranking.search(collection, unit("page 3", 64), 9, "f1")
    return [
        (
            hit.score, hit.line, hit.page.file, hit.page.page, hit.page.pages, hit.page.width, hit.page.read,
            library.catalogue.read_lines(hit.page.id), library.pictures.locate_picture(hit.page.id).read_bytes(),
            library.pictures.locate_thumbnail(hit.page.id).read_bytes()[:4],
            library.catalogue.read_vector(collection, hit.page.id)[0].tolist(),
        )
        for hit in hits
    ]  # fmt: skip


def test_out_and_in_again_nothing_is_lost(library: Library, tmp_path: Path, settings: Settings) -> None:
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert found.pages == 6 and found.bytes == found.path.stat().st_size
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [found.path.name]
    other = Library(tmp_path / "other")
    asked: list[str] = []
    made = import_collection(other, found.path, settings, asked.append)
    assert (made.name, made.pages, made.fingerprint, made.model, asked) == ("house", 6, "f1", "m", ["f1"])
    assert state(other, made.key) == state(library, at(library, "house"))
    assert [hit.page.id for hit in other.ranking.search(at(other, "house"), unit("page 3", 64), 1, "f1")] != [
        hit.page.id for hit in library.ranking.search(at(library, "house"), unit("page 3", 64), 1, "f1")
    ]
    again = import_collection(library, found.path, settings, anything)
    assert again.name == "house (2)" and again.key != library.catalogue.find_collection("house").key
    assert import_collection(library, found.path, settings, anything, "attic").name == "attic"
    with pytest.raises(BadValueError, match="already"):
        import_collection(library, found.path, settings, anything, "attic")


def test_it_is_there_when_it_is_whole_and_not_before(library: Library, tmp_path: Path, settings: Settings) -> None:
    path = export_collection(library, at(library, "house"), tmp_path / "exports", settings).path
    seen: list[tuple[int, int]] = []

    def step(done: int, total: int) -> None:
        seen.append((done, total))
        assert [(found.name, found.pages) for found in library.catalogue.list_collections()] == [("house", 6)]

    assert import_collection(library, path, settings, anything, "attic", progress=step).pages == 6
    assert seen == [(n, 6) for n in range(1, 7)]


def test_whoever_watches_can_stop_it(library: Library, tmp_path: Path, settings: Settings) -> None:
    path = export_collection(library, at(library, "house"), tmp_path / "exports", settings).path
    pictures = sorted(library.pictures.folder.iterdir())

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise InterruptedError(total)

    with pytest.raises(InterruptedError):
        import_collection(library, path, settings, anything, progress=stop)
    with pytest.raises(LibraryError):
        export_collection(library, at(library, "house"), tmp_path / "exports", settings, stop)
    assert [found.name for found in library.catalogue.list_collections()] == ["house"]
    assert sorted(library.pictures.folder.iterdir()) == pictures
    assert list((tmp_path / "exports").iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from serving.library.importing import import_collection
from serving.library.library import Library
from serving.settings import Settings
step = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == 4 else None
folder = Path(sys.argv[1])
import_collection(Library(folder), Path(sys.argv[2]), Settings(data=folder), lambda fingerprint: None, progress=step)
"""


def test_a_kill_in_the_middle_of_an_import_leaves_nothing(library: Library, tmp_path: Path, settings: Settings) -> None:
    path = export_collection(library, at(library, "house"), tmp_path / "exports", settings).path
    other = tmp_path / "other"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(other), str(path)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL and len(list((other / "pages").iterdir())) == 8
    opened = Library(other)
    assert opened.catalogue.list_collections() == [] and opened.catalogue.find_latest_name() is None
    assert opened.database.connection.execute("SELECT count(*) FROM pages").fetchone() == (0,)
    add(opened, new(), "fresh", "f1")
    opened.close()
    opened = Library(other)
    assert len(list(opened.pictures.folder.iterdir())) == 2, "pictures of the killed import are left"


def test_other_programs_can_read_it(library: Library, tmp_path: Path, settings: Settings) -> None:
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
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


def test_disk_full_leaves_nothing(
    library: Library, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "write_vectors", full)  # when the pictures are written already
    with pytest.raises(LibraryError, match="could not be exported: No space left on device"):
        export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert list((tmp_path / "exports").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(exporting.os, "fsync", full)
    with pytest.raises(LibraryError, match="No file of it was left"):
        export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert list((tmp_path / "exports").iterdir()) == []


def test_disk_that_is_really_full(library: Library, tmp_path: Path, settings: Settings) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("wb") as stream:
        exporting.write_archive(library, at(library, "house"), stream, settings, exporting.ignore_progress)
        stream.flush()


def test_pages_that_are_deleted_meanwhile_are_left_out(library: Library, tmp_path: Path, settings: Settings) -> None:
    hit = library.ranking.search(at(library, "house"), unit("page 1", 64), 1, "f1")[0]
    library.pictures.locate_picture(hit.page.id).unlink()
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert found.pages == 5
    assert import_collection(Library(tmp_path / "other"), found.path, settings, anything).pages == 5
    library.create_collection("empty")
    empty = export_collection(library, at(library, "empty"), tmp_path / "exports", settings)
    assert import_collection(library, empty.path, settings, anything).name == "empty (2)"


@pytest.mark.parametrize("key", [ABSENT, CollectionKey("c-" + 32 * "0")])
def test_what_is_not_there_cannot_be_exported(
    library: Library, key: CollectionKey, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(CollectionGoneError):
        export_collection(library, key, tmp_path / "exports", settings)


def test_fingerprint_is_asked_about_before_anything_is_made(
    library: Library, tmp_path: Path, settings: Settings
) -> None:
    def refuse(fingerprint: str) -> None:
        raise BadValueError(f"not {fingerprint}")

    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    other = Library(tmp_path / "other")
    with pytest.raises(BadValueError, match="not f1"):
        import_collection(other, found.path, settings, refuse)
    assert other.catalogue.list_collections() == []


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
    "too many": (head(pages=10**9), TooLargeError, "1,000,000,000 pages; the limit is 100,000"),
    "fewer": (head(pages=5), UnreadableError, "6 or more of 5 pages"),
    "other dimension": (head(dimension=65), UnreadableError, r"vectors\.npy cannot be read"),
    "id is a path": (first(id="../../../etc/pas"), UnreadableError, "entry is invalid"),
    "number": (first(page=0), UnreadableError, "entry is invalid"),
    "box": (first(lines=[{"text": "x", "box": [0, 0, float("nan"), 1]}]), UnreadableError, "entry is invalid"),
    "lines": (first(lines=[{"text": "x", "box": None}] * 2_001), TooLargeError, "2000 lines"),
    "text": (first(lines=[{"text": "x" * 2**20 * 64, "box": None}]), UnreadableError, "entry is invalid"),
    "not a picture": (last_picture(b"<html>"), ServingError, "not an image"),
    "bomb": (last_picture(huge_png()), TooLargeError, "megapixels"),
    "NaN": (
        lambda f: f.update({"vectors.npy": array(np.full((6, 64), np.nan, "<f2"))}), UnreadableError, "invalid vectors",
    ),
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
def test_what_was_changed_is_refused_whole(name: str, library: Library, tmp_path: Path, settings: Settings) -> None:
    change, error, words = BAD[name]
    path = changed(export_collection(library, at(library, "house"), tmp_path / "exports", settings).path, change)
    other = Library(tmp_path / "other")
    with pytest.raises(error, match=words):
        import_collection(other, path, settings, anything)
    assert other.catalogue.list_collections() == [] and list(other.pictures.folder.iterdir()) == []


def test_names_in_it_are_only_words(library: Library, tmp_path: Path, settings: Settings) -> None:
    def change(files: dict[str, bytes]) -> None:
        head(name="  x\u202e" + "y" * 300)(files)
        first(file="../../up\u202e/" + "z" * 300 + ".png", sha256="f" * 64)(files)
        files["../../../evil.jpg"] = b"x"

    other = Library(tmp_path / "other")
    path = changed(export_collection(library, at(library, "house"), tmp_path / "exports", settings).path, change)
    made = import_collection(other, path, settings, anything)
    assert made.name == "x " + "y" * 72 and not list(tmp_path.rglob("evil.jpg"))
    longest = max((file.name for file in other.catalogue.list_files(made.key)), key=len)
    assert len(longest) == 255 and longest.startswith("up/zzz") and longest.endswith("…" + "z" * 16 + ".png")


def test_pictures_that_are_no_jpeg_become_one(library: Library, tmp_path: Path, settings: Settings) -> None:
    path = changed(
        export_collection(library, at(library, "house"), tmp_path / "exports", settings).path,
        last_picture(encoded(picture((3_000, 30)), "PNG")),
    )
    made = import_collection(library, path, settings, anything)
    ids = [
        hit.page.id for hit in library.ranking.search(made.key, unit("page 5", 64), 9, "f1") if hit.page.width == 2_000
    ]
    assert len(ids) == 1 and library.pictures.locate_picture(ids[0]).read_bytes()[:3] == b"\xff\xd8\xff"


def test_storage_is_what_lies_on_the_disk(library: Library) -> None:
    found = library.measure_storage(at(library, "house"))
    pictures = sum(path.stat().st_size for path in library.pictures.folder.iterdir())
    assert (found.pages, found.pictures) == (6, pictures)
    assert found.data >= 6 * 64 * 2 + 3 * 2 * 64 * 2 and found.data < 6_000
    assert found.per_1000 == round((found.pictures + found.data) / 6 * 1000)
    assert library.measure_storage(at(library, "nobody")).per_1000 == 0


def test_export_is_of_one_moment(
    library: Library, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that come and go while it is written do not make it contradict itself."""
    real = exporting.write_picture
    hits = library.ranking.search(at(library, "house"), unit("page 0", 64), 9, "f1")

    def meanwhile(*args: object) -> bool:
        monkeypatch.setattr(exporting, "write_picture", real)
        library.add_page(made(library, "house"), page(7), fingerprint="f1", model="m")
        db = sqlite3.connect(library.folder / "library.db")
        db.execute("DELETE FROM lines WHERE page = ?", [hits[0].page.id])
        db.commit()
        db.close()
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "write_picture", meanwhile)
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert found.pages == 6
    with zipfile.ZipFile(found.path) as archive:
        assert sum(len(json.loads(line)["lines"]) for line in archive.open("pages.jsonl")) == 6
    shutil.rmtree(tmp_path / "exports")


# What can be exported can be imported


def noise(side: int) -> bytes:
    """A picture as it is kept, of which nothing can be left out."""
    values = np.random.default_rng(5).integers(0, 256, (side, side, 3), np.uint8)
    return encoded(Image.fromarray(values), "JPEG", quality=96)


def test_a_picture_larger_than_a_directory_comes_back(tmp_path: Path, settings: Settings) -> None:
    library, data = Library(tmp_path / "library"), noise(2_000)
    assert len(data) > DIRECTORY_BYTES
    library.add_page(made(library), new("a.png", sha256="0" * 64, picture=data), fingerprint="f1", model="m")
    found = export_collection(library, at(library), tmp_path / "exports", settings)
    back = import_collection(library, found.path, settings, anything)
    (page_id,) = library.catalogue.list_page_ids(back.key)
    assert library.pictures.locate_picture(page_id).read_bytes() == data


def test_limits_of_uploads_are_not_those_of_exports(library: Library, tmp_path: Path, settings: Settings) -> None:
    """Each is lower here than what the collection has in it."""
    lower = {"max_zip_bytes": 5_000, "max_zip_files": 1, "max_file_bytes": 1_024, "max_pixels": 100}
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    with zipfile.ZipFile(found.path) as archive:
        assert sum(info.file_size for info in archive.infolist()) > lower["max_zip_bytes"]
    assert import_collection(library, found.path, settings.model_copy(update=lower), anything).pages == 6


def test_nothing_is_packed_so_that_it_is_never_more_than_the_zip(tmp_path: Path, settings: Settings) -> None:
    """Text that would pack a thousandfold, as a bomb does."""
    library, lines = Library(tmp_path / "library"), tuple(Line("all the same " * 500) for _ in range(200))
    jpeg = encoded(picture((60, 40)), "JPEG")
    for number in (1, 2):
        add(library, new("a.pdf", number, sha256="0" * 64, picture=jpeg, lines=lines))
    found = export_collection(library, at(library), tmp_path / "exports", settings)
    with zipfile.ZipFile(found.path) as archive:
        assert sum(info.file_size for info in archive.infolist()) < found.bytes
    assert import_collection(library, found.path, settings, anything).pages == 2


def test_a_zip_of_more_than_four_gigabytes_comes_back(library: Library, tmp_path: Path, settings: Settings) -> None:
    """The file has a hole of 4 GiB before the first picture, so that no place in it can be said in 32 bits."""
    path = tmp_path / "large.zip"
    with path.open("wb") as stream:
        stream.seek(2**32 + 5)
        exporting.write_archive(library, at(library, "house"), stream, settings, exporting.ignore_progress)
    with zipfile.ZipFile(path) as archive:
        assert min(info.header_offset for info in archive.infolist()) > 2**32
    back = import_collection(library, path, settings, anything)
    assert state(library, back.key) == state(library, at(library, "house"))


@pytest.mark.parametrize(
    ("lower", "words"),
    [({"max_export_pages": 5}, "has 6 pages, more than 5"), ({"max_export_bytes": 4_000}, "more than 0.0 GB")],
)
def test_what_could_not_come_back_is_refused_before(
    library: Library, tmp_path: Path, settings: Settings, lower: dict[str, int], words: str
) -> None:
    with pytest.raises(TooLargeError, match=f"{words}.*move some of its files to another collection"):
        export_collection(library, at(library, "house"), tmp_path / "exports", settings.model_copy(update=lower))
    assert list((tmp_path / "exports").iterdir()) == []


def packed(path: Path) -> Path:
    """An export as earlier releases wrote it: its text was packed."""
    other = path.with_name("earlier.zip")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as earlier:
        for name in archive.namelist():
            method = zipfile.ZIP_DEFLATED if name.startswith(("collection", "pages")) else zipfile.ZIP_STORED
            earlier.writestr(name, archive.read(name), method)
    return other


def test_exports_of_earlier_releases_come_back(library: Library, tmp_path: Path, settings: Settings) -> None:
    path = packed(export_collection(library, at(library, "house"), tmp_path / "exports", settings).path)
    assert import_collection(library, path, settings, anything).pages == 6


def test_bombs_among_exports_are_refused(library: Library, tmp_path: Path, settings: Settings) -> None:
    path = changed(
        export_collection(library, at(library, "house"), tmp_path / "exports", settings).path,
        lambda files: files.update({"pages.jsonl": files["pages.jsonl"] + bytes(300 * 2**20)}),
    )
    with pytest.raises(TooLargeError, match="times its size"):
        import_collection(library, packed(path), settings, anything)


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours"), EOFError("ours")])
def test_errors_of_ours_are_not_told_as_a_damaged_zip(
    error: Exception, library: Library, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export_collection(library, at(library, "house"), tmp_path / "exports", settings).path

    def broken(_: object) -> bytes:
        raise error

    monkeypatch.setattr(importing, "encode_thumbnail", broken)
    with pytest.raises(type(error), match=r"^ours$"):
        import_collection(library, path, settings, anything)
    assert [found.name for found in library.catalogue.list_collections()] == ["house"]


def test_an_import_is_backed_up_once(library: Library, tmp_path: Path, settings: Settings) -> None:
    """And told as done when that has happened; where it does not, nothing of it is left."""
    path = export_collection(library, at(library, "house"), tmp_path / "exports", settings).path
    container = Container(tmp_path, "one")
    assert import_collection(container.library, path, settings, anything).pages == 6
    assert container.volume.commits == 1
    container.fail(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(LibraryError, match="it is full"):
        import_collection(container.library, path, settings, anything, "again")
    after = Container(tmp_path, "two").library
    for each in (container.library, after):
        assert [(found.name, found.pages) for found in each.catalogue.list_collections()] == [("house", 6)]
    assert state(after, at(after, "house")) == state(library, at(library, "house"))


def test_a_kill_after_another_change_was_backed_up_leaves_nothing_of_an_import(
    library: Library, tmp_path: Path, settings: Settings
) -> None:
    path = export_collection(library, at(library, "house"), tmp_path / "exports", settings).path
    container = Container(tmp_path, "one")
    container.library.delete_collection = lambda key: 0  # type: ignore[method-assign]

    def step(done: int, total: int) -> None:
        if done == 3:
            add(container.library, new("b.png"), "other")
            raise InterruptedError  # a kill does not clear up either: what was committed is all that is left

    with pytest.raises(InterruptedError):
        import_collection(container.library, path, settings, anything, progress=step)
    after = Container(tmp_path, "two").library
    assert [(found.name, found.pages) for found in after.catalogue.list_collections()] == [("other", 1)]
    assert after.database.fetch_all("SELECT count(*) FROM pages") == [(1,)]
    assert len(list(after.pictures.folder.iterdir())) == 2
