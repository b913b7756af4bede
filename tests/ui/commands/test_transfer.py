"""`dormouse export` and `import`, between a data folder and a running page."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.support.commands import Dormouse, write_files
from tests.support.files import pdf
from tests.support.zips import zipped


def test_a_collection_goes_out_and_comes_back(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    manual = write_files(tmp_path, {"m.pdf": pdf([["coffee"], ["swimming"]])}) / "m.pdf"
    anywhere("add", manual, "--collection", name)
    out = tmp_path / "out" / "kept.zip"
    out.parent.mkdir()
    out.write_bytes(b"an older one")
    exported = anywhere("export", "--collection", name, "--out", out, "--json")
    assert exported.code == 0
    assert exported.summary.items() >= {"file": str(out), "pages": 2, "bytes": out.stat().st_size}.items()
    assert list(out.parent.iterdir()) == [out] and "collection.json" in zipfile.ZipFile(out).namelist()
    back = anywhere("import", out, "--name", f"{name[:70]} back", "--json")
    assert (back.code, back.summary["pages"], back.summary["name"]) == (0, 2, f"{name[:70]} back")
    old, new = (
        [
            (hit["page"], hit["score"])
            for hit in anywhere("search", "coffee", "--collection", one, "--json").select("hit")
        ]
        for one in (name, back.summary["name"])
    )
    assert old == new and len(old) == 2
    again = anywhere("import", out)
    assert again.code == 0 and f"2 pages imported as '{name[:70]}" in again.out


def test_the_default_file_is_not_replaced(dormouse: Dormouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manual = write_files(tmp_path, {"m.pdf": pdf([["coffee"]])}) / "m.pdf"
    dormouse("add", manual, "--collection", "../Größe: 1/2")
    assert dormouse("export", "--collection", "../Größe: 1/2").code == 0
    assert (tmp_path / "Größe-1-2.zip").is_file()
    again = dormouse("export", "--collection", "../Größe: 1/2")
    assert again.code == 1 and "exists already" in again.err


def test_mistakes_are_told_and_leave_nothing(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    manual = write_files(tmp_path, {"m.pdf": pdf([["coffee"]]), "no.zip": zipped({"a.png": b"x"})}) / "m.pdf"
    anywhere("add", manual, "--collection", name)
    (tmp_path / "out").mkdir()
    for out in (tmp_path / "out", tmp_path / "nowhere" / "a.zip"):
        assert anywhere("export", "--collection", name, "--out", out).code == 1
    unknown = anywhere("export", "--collection", "nobody's", "--out", tmp_path / "out" / "a.zip")
    assert unknown.code == 1 and not list((tmp_path / "out").iterdir())
    before = anywhere("list").out
    for file, words in ((manual, "zip"), (tmp_path / "no.zip", "no exported collection"), (tmp_path / "x", "no file")):
        found = anywhere("import", file)
        assert found.code == 1 and words in found.err and found.err.count("\n") == 1
    assert anywhere("list").out == before
