"""Looks at a folder: what has settled, what has gone, and whether it is still the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import NotFoundError
from serving.settings import Settings
from tests.support.commands import write_files
from tests.support.zips import zipped
from ui.commands.watched_folder import WatchedFolder


def test_a_file_has_settled_when_two_looks_are_equal(tmp_path: Path) -> None:
    folder = write_files(tmp_path, {"in/a.png": b"half", "in/sub/b.png": b"b"}) / "in"
    watched = WatchedFolder(folder, Settings())
    assert watched.prefix == "in/"
    first = watched.look()
    assert not first.settled and first.unsettled == {"in/a.png", "in/sub/b.png"} and first.whole
    (folder / "a.png").write_bytes(b"half and more")
    second = watched.look()
    assert set(second.settled) == {"in/sub/b.png"} and second.unsettled == {"in/a.png"}
    third = watched.look()
    assert set(third.settled) == {"in/a.png", "in/sub/b.png"} and watched.look().state == third.state
    (folder / "a.png").rename(folder / "c.png")
    moved = watched.look()
    assert moved.just_gone == {"in/a.png"} and moved.unsettled == {"in/c.png"} and moved.state != third.state
    assert watched.look().just_gone == frozenset()


def test_what_is_in_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_files(tmp_path, {"in/a.zip": zipped({"x/1.png": b"1"})}) / "in"
    watched = WatchedFolder(folder, Settings())
    watched.look()
    look = watched.look()
    assert [name for name, _ in look.settled["in/a.zip"].contents] == ["in/a.zip/x/1.png"]
    assert look.owner_of("in/a.zip/x/1.png") == look.owner_of("in/a.zip") == "in/a.zip"
    assert look.owner_of("in/a") is None and look.owner_of("other") is None
    monkeypatch.setattr("ui.commands.watched_folder.hash_contents", None)
    assert watched.look().settled == look.settled


def test_a_folder_that_is_gone_or_another_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot be read"):
        WatchedFolder(tmp_path / "nowhere", Settings())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFoundError, match="is no folder"):
        WatchedFolder(tmp_path / "file", Settings())
    folder = write_files(tmp_path, {"in/a.png": b"a"}) / "in"
    watched = WatchedFolder(folder, Settings())
    folder.rename(tmp_path / "away")
    with pytest.raises(NotFoundError, match="cannot be read"):
        watched.look()
    folder.mkdir()
    with pytest.raises(NotFoundError, match="another folder now"):
        watched.look()
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    assert watched.look().whole
