"""`dormouse delete`, in a data folder and on a running page."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.support.commands import Dormouse, write_files
from tests.support.files import encoded, pdf, picture


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def test_files_and_collections_are_deleted(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    folder = write_files(tmp_path, {"in/m.pdf": pdf([["1"], ["2"]]), "in/b.png": encoded(picture(text="b"))}) / "in"
    anywhere("add", folder, "--collection", name)
    some = anywhere("delete", "--collection", name, "--file", "in/m.pdf", "--file", "nobody's", "--yes", "--json")
    assert (some.code, some.summary["pages"], some.summary["skipped"]) == (3, 2, 1)
    assert some.select("deleted") == [{"type": "deleted", "file": "in/m.pdf", "pages": 2}]
    assert some.select("skipped")[0]["file"] == "nobody's"
    assert anywhere("list", "--files", "--collection", name).out == "     1  in/b.png\n"
    every = anywhere("delete", "--collection", name, "--yes")
    assert (every.code, every.out) == (0, f"1 page deleted, with the collection {name!r}\n")
    gone = anywhere("delete", "--collection", name, "--yes")
    assert gone.code == 1 and "there is no collection" in gone.err


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("YES\n", 0), ("n\n", 130), ("", 130)])
def test_it_asks_on_a_terminal(
    dormouse: Dormouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    manual = write_files(tmp_path, {"m.pdf": pdf([["1"], ["2"]])}) / "m.pdf"
    dormouse("add", manual, "--collection", "c")
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    found = dormouse("delete", "--collection", "c")
    assert found.code == code and "Delete the collection 'c' with 2 pages?" in found.err
    assert ("nothing was deleted" in found.err) == bool(code)
    assert len(dormouse("list", "--json").records) == (1 if code else 0)


def test_without_a_terminal_it_wants_to_be_told(dormouse: Dormouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    found = dormouse("delete", "--collection", "c")
    assert found.code == 2 and "--yes" in found.err
