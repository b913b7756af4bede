"""Zips that people and attackers send."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from serving.documents import archives
from serving.documents.archives import DIRECTORY_BYTES, Bounds, hash_members, is_zip, unpack_members
from serving.errors import NotAnImageError, ServingError, TooLargeError, UnreadableError
from serving.settings import Settings
from tests.support.files import encoded, pdf, picture
from tests.support.zips import zipped

PNG = encoded(picture((30, 20)))


def opened(folder: Path, data: bytes, settings: Settings) -> dict[str, object]:
    """Name to the bytes that came out, or to the error's words."""
    path, inside = folder / "upload", folder / "inside"
    path.write_bytes(data)
    inside.mkdir(exist_ok=True)
    found = {
        member.name: member.found.message if isinstance(member.found, ServingError) else member.found.read_bytes()
        for member in unpack_members(path, inside, settings)
    }
    assert {entry.parent for entry in folder.rglob("*")} <= {folder, inside}, "something was written elsewhere"
    return found


def test_files_and_folders_come_out_by_name(tmp_path: Path, settings: Settings) -> None:
    files = {"a.png": PNG, "2026/März/b.png": PNG + b"b", "2026/": b"", "__MACOSX/._a.png": b"x", ".DS_Store": b"x"}
    assert opened(tmp_path, zipped(files), settings) == {"a.png": PNG, "2026/März/b.png": PNG + b"b"}


def test_members_are_hashed_under_the_names_that_they_get(tmp_path: Path) -> None:
    settings = Settings(max_file_bytes=2_000)
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"in/a.png": b"a", "../b.png": b"b", ".DS_Store": b"x", "large.png": bytes(2_001)}))
    (tmp_path / "out").mkdir()
    unpacked = {one.name: one.found for one in unpack_members(path, tmp_path / "out", settings)}
    read = {name: found.read_bytes() for name, found in unpacked.items() if isinstance(found, Path)}
    assert dict(hash_members(path, settings)) == {name: hashlib.sha256(data).hexdigest() for name, data in read.items()}
    assert list(read.values()) == [b"a", b"b"]
    path.write_bytes(b"PK\x03\x04 no")
    with pytest.raises(UnreadableError):
        list(hash_members(path, settings))


def test_names_are_words_not_paths(tmp_path: Path, settings: Settings) -> None:
    names = {
        "../../../etc/passwd": "etc/passwd",
        "/abs/olute.png": "abs/olute.png",
        "C:\\x::$DATA": "C:/x::$DATA",
        "<img src=x onerror=alert(1)>.png": "<img src=x onerror=alert(1)>.png",
        "in\u202egnp.exe": "in gnp.exe",
        "..": "unnamed",
        "n" * 300 + ".png": "n" * 234 + "…" + "n" * 16 + ".png",
    }
    assert list(opened(tmp_path, zipped(dict.fromkeys(names, PNG)), settings)) == list(names.values())


def test_bad_members_leave_the_others(tmp_path: Path, settings: Settings) -> None:
    inner = zipped({"a.png": PNG})
    data = bytearray(
        zipped({"good.png": PNG, "inner.zip": inner, "picture.png": inner, "cut.png": PNG}, zipfile.ZIP_STORED)
    )
    start = data.rindex(PNG)
    data[start + 20 : start + 24] = b"????"  # its checksum is wrong now
    found = opened(tmp_path, bytes(data), settings)
    assert found["good.png"] == PNG
    for name in ("inner.zip", "picture.png"):
        assert found[name] == "a zip inside a zip is not opened: unpack it and add its files"
    assert "damaged in the zip" in str(found["cut.png"])
    assert len(list((tmp_path / "inside").iterdir())) == 1


def test_a_zip_that_begins_with_a_pdf_is_still_a_zip(tmp_path: Path, settings: Settings) -> None:
    document = pdf([["Words of the page"]])
    data = zipped({"first.pdf": document}, zipfile.ZIP_STORED)
    assert b"%PDF-" in data[:1024]
    assert opened(tmp_path, data, settings) == {"first.pdf": document} and is_zip(tmp_path / "upload")


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (zipped({}), UnreadableError, "empty"),
        (zipped({"__MACOSX/a": b"x"}), UnreadableError, "empty"),
        (zipped({"a.png": PNG})[:-30], UnreadableError, "damaged"),
        (b"PK\x03\x04" + b"x" * 500, UnreadableError, "damaged"),
        (zipped({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"x"}), NotAnImageError, "save it as PDF"),
        (zipped({"mimetype": b"application/epub+zip"}), NotAnImageError, "save it as PDF"),
        (zipped({"collection.json": b"{}"}), NotAnImageError, "Import"),
        (zipped({f"{n}.png": b"x" for n in range(60)}), TooLargeError, "60 files; the limit is 50"),
    ],
)
def test_whole_zips_are_refused_with_what_to_do(
    data: bytes, error: type[ServingError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        opened(tmp_path, data, Settings(data=tmp_path, max_zip_files=50))


def test_bombs_are_stopped_before_they_are_unpacked(tmp_path: Path, settings: Settings) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            with archive.open(f"{number}.bmp", "w") as stream:
                for _ in range(49):
                    stream.write(bytes(1024 * 1024))
    assert len(buffer.getvalue()) < 400_000
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="times its size"):
        opened(tmp_path, buffer.getvalue(), settings)
    with pytest.raises(TooLargeError, match="holds 308 MB"):
        opened(tmp_path, buffer.getvalue(), Settings(data=tmp_path, max_zip_bytes=300_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * DIRECTORY_BYTES and list((tmp_path / "inside").iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_at_once_are_not_taken(method: int, tmp_path: Path, settings: Settings) -> None:
    found = opened(tmp_path, zipped({"zeros.bmp": bytes(40_000_000)}, method), settings)
    assert "with deflate" in str(found["zeros.bmp"])


def test_size_that_is_not_true_bounds_what_is_read(tmp_path: Path, settings: Settings) -> None:
    """Its directory says 100 bytes; 40 MB would come out."""
    data = zipped({"a.bmp": bytes(40_000_000)}).replace(struct.pack("<I", 40_000_000), struct.pack("<I", 100))
    found = opened(tmp_path, data, settings)
    assert "damaged in the zip" in str(found["a.bmp"]) and list((tmp_path / "inside").iterdir()) == []


def test_directory_is_not_read_when_it_is_too_large(tmp_path: Path, settings: Settings) -> None:
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 3 * DIRECTORY_BYTES, 4, 0)
    (tmp_path / "upload").write_bytes(b"PK\3\4" + bytes(3 * DIRECTORY_BYTES) + end)
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="too many files"):
        list(unpack_members(tmp_path / "upload", tmp_path, settings))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * DIRECTORY_BYTES


def test_large_and_encrypted_members(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, max_file_bytes=2_048)
    data = bytearray(zipped({"small.png": PNG, "large.bmp": bytes(3_000), "locked.png": PNG + b"."}))
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.rindex(magic) + offset] |= 1
    found = opened(tmp_path, bytes(data), settings)
    assert found["small.png"] == PNG
    assert "the limit is" in str(found["large.bmp"]) and "password" in str(found["locked.png"])


def test_members_without_a_name_or_before_the_beginning(tmp_path: Path, settings: Settings) -> None:
    nameless = zipped({"noname": PNG, "a.png": PNG}).replace(b"noname", b"\0oname")  # where a name ends
    assert opened(tmp_path, nameless, settings) == {"unnamed": PNG, "a.png": PNG}
    data = zipped({"a.png": PNG, "b.png": PNG}, zipfile.ZIP_STORED)
    cut = data[:30] + data[40:]  # all that the directory names has moved up, the first of it out of the file
    found = opened(tmp_path, cut, settings)
    assert "before the beginning of the zip" in str(found["a.png"]) and found["b.png"] == PNG


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours"), NotImplementedError("ours")])
def test_errors_of_whoever_uses_a_zip_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"a.png": PNG}))
    with pytest.raises(type(error), match=r"^ours$"), archives.open_archive(path, Bounds(1, 10_000, 100)):
        raise error
    with (
        archives.open_archive(path, Bounds(1, 10_000, 100)) as archive,
        pytest.raises(type(error), match=r"^ours$"),
        archives.open_member(archive, archive.infolist()[0], "damaged") as stream,
    ):
        assert stream.read() == PNG
        raise error
