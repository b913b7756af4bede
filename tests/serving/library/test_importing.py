"""A collection that comes out of a zip, and zips that only look like one."""

from __future__ import annotations

import errno
import io
import json
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.documents.archives import DIRECTORY_BYTES
from serving.errors import BadValueError, ServingError, TooLargeError, UnreadableError
from serving.library import importing
from serving.library.database import LibraryError
from serving.library.exporting import export_collection
from serving.library.importing import import_collection
from serving.library.library import Library
from serving.settings import Settings
from tests.support.exported_pages import anything, changed, state
from tests.support.files import encoded, huge_png, picture
from tests.support.libraries import add, at, made, new
from tests.support.scripted import unit
from tests.support.stores import LibraryOpener, list_pictures
from tests.support.volumes import Container


@pytest.fixture
def library(house: Library) -> Library:
    return house


def test_out_and_in_again_nothing_is_lost(
    library: Library, store: LibraryOpener, tmp_path: Path, settings: Settings
) -> None:
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    assert found.pages == 6 and found.bytes == found.path.stat().st_size
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [found.path.name]
    other = store.open(tmp_path / "other")
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
    assert opened.database.fetch_one("SELECT count(*) FROM pages") == (0,)
    add(opened, new(), "fresh", "f1")
    opened.close()
    opened = Library(other)
    assert len(list(opened.pictures.folder.iterdir())) == 2, "pictures of the killed import are left"


def test_fingerprint_is_asked_about_before_anything_is_made(
    library: Library, store: LibraryOpener, tmp_path: Path, settings: Settings
) -> None:
    def refuse(fingerprint: str) -> None:
        raise BadValueError(f"not {fingerprint}")

    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    other = store.open(tmp_path / "other")
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
def test_what_was_changed_is_refused_whole(
    name: str, library: Library, store: LibraryOpener, tmp_path: Path, settings: Settings
) -> None:
    change, error, words = BAD[name]
    path = changed(export_collection(library, at(library, "house"), tmp_path / "exports", settings).path, change)
    other = store.open(tmp_path / "other")
    with pytest.raises(error, match=words):
        import_collection(other, path, settings, anything)
    assert other.catalogue.list_collections() == [] and list_pictures(other) == set()


def test_names_in_it_are_only_words(library: Library, store: LibraryOpener, tmp_path: Path, settings: Settings) -> None:
    def change(files: dict[str, bytes]) -> None:
        head(name="  x\u202e" + "y" * 300)(files)
        first(file="../../up\u202e/" + "z" * 300 + ".png", sha256="f" * 64)(files)
        files["../../../evil.jpg"] = b"x"

    other = store.open(tmp_path / "other")
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
        hit.page.id for hit in library.ranking.search(made.key, unit("page 5", 64), 9, "f1") if hit.page.width == 3_000
    ]
    assert len(ids) == 1 and (library.pictures.read_picture(ids[0]) or b"")[:3] == b"\xff\xd8\xff"


def noise(side: int) -> bytes:
    """A picture as it is kept, of which nothing can be left out."""
    values = np.random.default_rng(5).integers(0, 256, (side, side, 3), np.uint8)
    return encoded(Image.fromarray(values), "JPEG", quality=96)


def test_a_picture_larger_than_a_directory_comes_back(store: LibraryOpener, tmp_path: Path, settings: Settings) -> None:
    library, data = store.open(tmp_path / "many"), noise(2_000)
    assert len(data) > DIRECTORY_BYTES
    library.add_page(made(library), new("a.png", sha256="0" * 64, picture=data), fingerprint="f1", model="m")
    found = export_collection(library, at(library), tmp_path / "exports", settings)
    back = import_collection(library, found.path, settings, anything)
    (page_id,) = library.catalogue.list_page_ids(back.key)
    assert library.pictures.read_picture(page_id) == data


def test_limits_of_uploads_are_not_those_of_exports(library: Library, tmp_path: Path, settings: Settings) -> None:
    """Each is lower here than what the collection has in it."""
    lower = {
        "max_zip_bytes": 5_000,
        "max_zip_files": 1,
        "max_file_bytes": 1_024,
        "max_image_bytes": 1_024,
        "max_pixels": 100,
    }
    found = export_collection(library, at(library, "house"), tmp_path / "exports", settings)
    with zipfile.ZipFile(found.path) as archive:
        assert sum(info.file_size for info in archive.infolist()) > lower["max_zip_bytes"]
    assert import_collection(library, found.path, settings.model_copy(update=lower), anything).pages == 6


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
