"""Where a command finds the collections: a page that holds the folder is asked, and another program is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.library.library import Library
from tests.support.commands import Dormouse, write_files
from tests.support.files import encoded, picture


def test_a_page_that_runs_on_the_folder_is_asked(
    dormouse: Dormouse, name: str, running_page: str, page_folder: Path, tmp_path: Path
) -> None:
    file = write_files(tmp_path, {"a.png": encoded(picture(text="a"))}) / "a.png"
    assert (page_folder / "page.url").read_text() == running_page
    assert (page_folder / "page.url").stat().st_mode & 0o777 == 0o600
    dormouse.options = ("--data", str(page_folder))
    assert dormouse("add", file, "--collection", name, "--json").summary["added"] == 1
    dormouse.options = ("--page", running_page)
    assert dormouse("list", "--files", "--collection", name).out == "     1  a.png\n"


def test_another_program_that_holds_the_folder_is_told_of(dormouse: Dormouse, data: Path, tmp_path: Path) -> None:
    file = write_files(tmp_path, {"a.png": encoded(picture(text="a"))}) / "a.png"
    library = Library(data)
    try:
        (data / "page.url").write_text("http://127.0.0.1:1")  # left by a page that was killed: not believed
        for command in (("add", file, "--collection", "c"), ("list",), ("delete", "--collection", "c", "--yes")):
            found = dormouse(*map(str, command))
            assert found.code == 1 and "another program is using" in found.err and "--page http://" in found.err
    finally:
        library.close()
    assert dormouse("add", file, "--collection", "c").code == 0


def test_what_only_reads_makes_no_folder(dormouse: Dormouse, data: Path) -> None:
    for command in ("list", "search", "export", "delete"):
        words = {"search": ["a"], "delete": ["--yes"]}.get(command, [])
        found = dormouse(command, *words, "--collection", "c")
        assert found.code == 1 and "there are no collections in" in found.err
    assert not data.exists()


def test_page_and_folder_exclude_each_other(dormouse: Dormouse) -> None:
    assert dormouse("list", "--page", "http://localhost:1").code == 2, "the fixture gives --data"
    dormouse.options = ("--page", "http://localhost:1", "--worker", "http://localhost:2")
    assert "--worker is for a data folder" in dormouse("list").err


def test_a_read_only_folder_is_not_changed(dormouse: Dormouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_files(tmp_path, {"a.png": encoded(picture(text="a"))}) / "a.png"
    dormouse("add", file, "--collection", "c")
    monkeypatch.setenv("DORMOUSE_READ_ONLY", "1")
    assert dormouse("delete", "--collection", "c", "--yes").code == 1
    assert "1 page" in dormouse("list").out
