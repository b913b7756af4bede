"""Which files a path names, under which names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from serving.errors import BadValueError
from serving.settings import Settings
from tests.support.commands import write_files
from tests.support.zips import zipped
from ui.commands.folder_files import find_files


def names(*paths: Path) -> list[str]:
    def refuse(name: str, reason: str) -> None:
        raise AssertionError(name, reason)

    return [file.name for file in find_files(paths, Settings(), refuse)]


def test_names_begin_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {
        "m/b/z.png": b"z",
        "m/a.png": b"a",
        "m/b/.git/x": b"x",
        "m/.x": b"",
        "m/__MACOSX/a": b"",
        "m/ä\n.png": b"umlaut",
    }
    write_files(tmp_path, tree)
    (tmp_path / "m" / "loop").symlink_to(tmp_path / "m")
    wanted = ["m/a.png", "m/ä .png", "m/b/z.png"]
    assert names(tmp_path / "m") == wanted
    monkeypatch.chdir(tmp_path / "m" / "b")
    assert names(Path("..")) == wanted and names(Path("z.png"), Path("../a.png")) == ["z.png", "a.png"]
    assert names(tmp_path / "m" / "a.png", tmp_path / "m") == ["a.png", *wanted[1:]], "each file once"


def test_contents_are_hashed(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": b"a", "b.zip": zipped({"x/1.png": b"1", "2.png": b"2"}), "c.zip": b"PK\x03\x04"})
    found = {file.name: file.contents for file in find_files([tmp_path], Settings(), lambda _name, _why: None)}
    top = tmp_path.name

    def sha(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    assert found == {
        f"{top}/a.png": ((f"{top}/a.png", sha(b"a")),),
        f"{top}/b.zip": ((f"{top}/b.zip/x/1.png", sha(b"1")), (f"{top}/b.zip/2.png", sha(b"2"))),
        f"{top}/c.zip": (),
    }


def test_what_does_not_exist_is_told_before_anything(tmp_path: Path) -> None:
    with pytest.raises(BadValueError, match="there is no file or folder"):
        names(tmp_path, tmp_path / "nowhere")
