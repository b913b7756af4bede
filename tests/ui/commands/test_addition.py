"""`dormouse add`: real files, in a data folder and on a running page."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from serving.library.library import Library
from tests.support.commands import Dormouse, Ended, end, start, write_files
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import at
from tests.support.repository import SAMPLES
from tests.support.servers import ScriptedWorker
from tests.support.zips import zipped

PUMP = {"manuals/pump/a.pdf": pdf([["one"], ["two"]]), "manuals/b.png": encoded(picture(text="b"))}


def pages_of(found: Ended) -> set[tuple[str, int]]:
    return {(page["file"], page["page"]) for page in found.select("page")}


def list_files(dormouse: Dormouse, name: str) -> dict[str, int]:
    found = dormouse("list", "--files", "--collection", name, "--json")
    assert found.code == 0
    return {file["file"]: file["pages"] for file in found.select("file")}


def test_folders_keep_their_names_and_adding_again_adds_nothing(
    anywhere: Dormouse, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path, {**PUMP, "manuals/.hidden.png": b"x", "manuals/Thumbs.db": b"x"}) / "manuals"
    first = anywhere("add", folder, "--collection", name, "--json")
    assert first.code == 0, first.err
    assert pages_of(first) == {("manuals/pump/a.pdf", 1), ("manuals/pump/a.pdf", 2), ("manuals/b.png", 1)}
    assert {"added": 3, "skipped": 0, "known": 0}.items() <= first.summary.items()
    again = anywhere("add", folder, folder / "b.png", "--collection", name, "--json")
    assert (again.code, again.summary["added"], again.summary["known"]) == (0, 0, 2)
    assert {(one["file"], one["reason"]) for one in again.select("known")} == {
        ("manuals/pump/a.pdf", "already here"),
        ("manuals/b.png", "already here"),
    }
    monkeypatch.chdir(folder)
    here = anywhere("add", ".", "--collection", name)
    assert (here.code, here.out) == (0, f"0 pages added to {name!r} (2 files already here)\n")
    assert list_files(anywhere, name) == {"manuals/b.png": 1, "manuals/pump/a.pdf": 2}


def test_a_changed_file_replaces_its_old_pages(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    file = write_files(tmp_path, {"a.pdf": pdf([["old one"], ["old two"]])}) / "a.pdf"
    assert anywhere("add", file, "--collection", name).code == 0
    file.write_bytes(pdf([["new one"]]))
    kept = anywhere("add", file, "--collection", name, "--keep-old", "--json")
    assert (kept.code, kept.summary["added"], kept.summary["replaced"]) == (0, 1, 0)
    replaced = anywhere("add", file, "--collection", name, "--json")
    assert replaced.select("replaced") == [{"type": "replaced", "file": "a.pdf", "pages": 2}]
    assert {"added": 0, "known": 1, "replaced": 1, "deleted": 2}.items() <= replaced.summary.items()
    assert list_files(anywhere, name) == {"a.pdf": 1}


def test_old_pages_stay_where_the_new_ones_are_not_all_in(dormouse: Dormouse, tmp_path: Path) -> None:
    file = write_files(tmp_path, {"a.pdf": pdf([["old one"]])}) / "a.pdf"
    assert dormouse("add", file, "--collection", "c").code == 0
    file.write_bytes(b"%PDF-1.4 half written")
    assert dormouse("add", file, "--collection", "c").code == 3
    file.write_bytes(pdf([["new one"], ["this one is unreadable for the double"]]))
    half = dormouse("add", file, "--collection", "c", "--json")
    assert (half.code, half.summary["added"], half.summary["replaced"]) == (3, 1, 0)
    assert [one["file"] for one in half.select("skipped")] == ["a.pdf, page 2"]
    assert list_files(dormouse, "c") == {"a.pdf": 1}, "both are listed under the same name"
    again = dormouse("add", file, "--collection", "c", "--json")
    assert (again.code, again.summary["known"]) == (3, 1) and "1 of its 2 pages" in again.select("known")[0]["reason"]


def test_files_of_one_name_do_not_replace_each_other(dormouse: Dormouse, tmp_path: Path) -> None:
    """Two folders of one name in one call, and files that have swapped their names."""
    one, other = encoded(picture(text="one")), encoded(picture(text="other"))
    write_files(tmp_path, {"x/jan/a.png": one, "y/jan/a.png": other})
    both = (tmp_path / "x/jan", tmp_path / "y/jan")
    assert dormouse("add", *both, "--collection", "c", "--json").summary["added"] == 2
    assert dormouse("add", *both, "--collection", "c", "--json").summary["replaced"] == 0
    write_files(tmp_path, {"s/a.png": one, "s/b.png": other})
    dormouse("add", tmp_path / "s", "--collection", "swapped")
    write_files(tmp_path, {"s/a.png": other, "s/b.png": one})
    swapped = dormouse("add", tmp_path / "s", "--collection", "swapped", "--json")
    assert (swapped.summary["known"], swapped.summary["replaced"]) == (2, 0)


def test_zips_are_folders(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    files = {"in/a.pdf": pdf([["in a zip"]]), "b.png": encoded(picture(text="b")), "__MACOSX/b.png": b"x"}
    book = write_files(tmp_path, {"book.zip": zipped(files)}) / "book.zip"
    assert pages_of(anywhere("add", book, "--collection", name, "--json")) == {
        ("book.zip/in/a.pdf", 1),
        ("book.zip/b.png", 1),
    }
    assert anywhere("add", book, "--collection", name, "--json").summary["known"] == 2
    book.write_bytes(zipped({**files, "in/a.pdf": pdf([["changed in the zip"]])}))
    changed = anywhere("add", book, "--collection", name, "--json")
    assert {"added": 1, "replaced": 1, "deleted": 1}.items() <= changed.summary.items()
    assert list_files(anywhere, name) == {"book.zip/in/a.pdf": 1, "book.zip/b.png": 1}


def test_rubbish_is_skipped_with_its_reason(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    rubbish = {
        "empty.pdf": b"",
        "text.png": b"only text",
        "cut.zip": b"PK\x03\x04 no",
        "broken.pdf": b"%PDF-1.4 nothing",
        "nested.zip": zipped({"a.zip": zipped({"b.png": b"x"})}),
        "export.zip": zipped({"collection.json": b"{}"}),
        "evil\x1b[31m.png": b"no",
    }
    folder = write_files(tmp_path / "r", {**rubbish, "good.png": encoded(picture(text="good"))})
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to("nowhere")
    found = anywhere("add", folder, "--collection", name, "--json")
    assert (found.code, found.summary["added"]) == (3, 1)
    told = {one["file"]: one["reason"] for one in found.select("skipped")}
    assert set(told) == {
        "r/empty.pdf", "r/text.png", "r/cut.zip", "r/broken.pdf", "r/nested.zip/a.zip", "r/export.zip",
        "r/evil [31m.png", "r/pipe.png", "r/gone.png",
    }  # fmt: skip
    assert all(len(reason) > 10 for reason in told.values()) and "dormouse import" in told["r/export.zip"]
    assert found.summary["skipped"] == len(told)
    plain = anywhere("add", folder, "--collection", name)
    assert (
        plain.code == 3
        and "skipped r/text.png: " in plain.out
        and f"(1 file already here, {len(told)} skip" in plain.out
    )


def test_what_is_wrong_with_the_call_is_told_in_a_line(dormouse: Dormouse, tmp_path: Path) -> None:
    file = write_files(tmp_path, {"a.png": encoded(picture())}) / "a.png"
    assert dormouse("add", "--collection", "c").code == 2
    assert dormouse("add", file).code == 2
    missing = dormouse("add", file, tmp_path / "nowhere", "--collection", "c", "--json")
    assert missing.code == 1 and "there is no file or folder" in missing.err and missing.err.count("\n") == 1
    assert "there is no file or folder" in missing.summary["error"] and missing.records == []
    assert not (tmp_path / "data").exists(), "nothing was begun"
    assert "1 to 80 printable" in dormouse("add", file, "--collection", " ").err
    dormouse.options = ("--data", str(tmp_path / "data"), "--worker", "http://127.0.0.1:1")
    unreachable = dormouse("add", file, "--collection", "c")
    assert unreachable.code == 1 and unreachable.err.startswith("dormouse add: ")


def test_an_empty_folder_is_no_mistake(dormouse: Dormouse, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    assert dormouse("add", tmp_path / "inbox", "--collection", "c").out == "0 pages added to 'c'\n"


def read_library(data: Path, name: str) -> dict[str, tuple[str, int]]:
    """The pages of a collection as a new process finds them: id to file and number."""
    library = Library(data)
    try:
        pages = library.catalogue.read_pages(library.catalogue.list_page_ids(at(library, name)))
        return {page_id: (page.file, page.page) for page_id, page in pages.items()}
    finally:
        library.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_acknowledged_page_is_lost_and_none_is_there_twice(
    how: signal.Signals, scripted: ScriptedWorker, dormouse: Dormouse, data: Path, tmp_path: Path
) -> None:
    scripted.embedder.seconds = 0.1
    files = {f"{n}.pdf": pdf([[f"{n}, page {page}"] for page in range(5)]) for n in range(6)}
    folder = write_files(tmp_path / "in", files)
    process = start("add", folder, "--collection", "c", "--data", data, "--worker", scripted.url, "--json")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(7)]
    process.send_signal(how)
    ended = end(process, "".join(lines))
    told = [json.loads(line) for line in ended.out.splitlines() if line.endswith("}")]
    acknowledged = {one["id"]: (one["file"], one["page"]) for one in told if one["type"] == "page"}
    assert 7 <= len(acknowledged) < 30
    found = read_library(data, "c")
    assert acknowledged.items() <= found.items()
    if how is not signal.SIGKILL:
        assert ended.code == 130 and found == acknowledged
        assert f"stopped: {len(found)} pages were added" in ended.err and ended.summary["added"] == len(found)
    dormouse.options = ("--data", str(data), "--worker", scripted.url)
    scripted.embedder.seconds = 0.0
    rest = dormouse("add", folder, "--collection", "c", "--json")
    assert rest.code == 0 and rest.summary["added"] == 30 - len(found)
    assert acknowledged.items() <= (whole := read_library(data, "c")).items()
    assert sorted(whole.values()) == sorted((f"in/{n}.pdf", page) for n in range(6) for page in range(1, 6))


@pytest.mark.long
@pytest.mark.soak
def test_the_built_in_embedder_is_started_and_stopped(tmp_path: Path) -> None:
    data = ("--data", tmp_path / "data")
    receipt = SAMPLES / "receipt-corner-larder.jpg"
    added = end(start("add", receipt, "--collection", "c", "--json", *data))
    assert (added.code, added.summary["added"], added.err) == (0, 1, "")
    found = end(start("search", "what did I buy?", "--collection", "c", *data))
    assert found.code == 0 and "receipt-corner-larder.jpg, page 1" in found.out and found.err == ""
