"""Which files, and so which pages, a selection takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from serving.errors import BadValueError
from serving.library.file_names import FileNames
from serving.library.records import Selection
from serving.library.vectors import Block


def make_block(files: Sequence[int], times: Sequence[float] | None = None) -> Block:
    """Rows of files with these numbers."""
    ids, rows = [f"{n:016x}" for n in range(len(files))], np.zeros((len(files), 4), np.float16)
    return Block(ids, rows, np.array(files, np.int32), np.array(times or [0.0] * len(files)))


def select(selection: Selection, *files: str) -> set[str]:
    """Those of the files, each with a page, that are selected."""
    names = FileNames()
    block = make_block([names.number(file) for file in files])
    chosen = names.select(selection, np.ones(len(names), np.bool_))
    return {files[n] for n in np.flatnonzero(chosen.mask_rows(block))}


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        (Selection(), {"a.pdf", "b.png", "c.jpg", "d.docx"}),
        (Selection(files=("a.pdf", "c.jpg")), {"a.pdf", "c.jpg"}),
        (Selection(types=("pdf",)), {"a.pdf"}),
        (Selection(types=("image",)), {"b.png", "c.jpg"}),
        (Selection(types=("jpeg", "other")), {"c.jpg", "d.docx"}),
        (Selection(files=("a.pdf", "b.png"), types=("image",)), {"b.png"}),
    ],
)
def test_files_and_types_select_together(selection: Selection, selected: set[str]) -> None:
    assert select(selection, "a.pdf", "b.png", "c.jpg", "d.docx") == selected


@pytest.mark.parametrize(
    ("file", "asked"), [("Bro\u0308tchen.pdf", "Br\u00f6tchen.pdf"), ("\u00e9.pdf", "e\u0301.pdf")]
)
def test_a_name_is_found_however_its_letters_are_composed(file: str, asked: str) -> None:
    assert select(Selection(files=(asked,)), file, "x.pdf") == {file}


@pytest.mark.parametrize(
    ("folder", "file", "is_in"),
    [
        ("manuals", "manuals/a.pdf", True),
        ("/manuals/", "manuals/pump/a.pdf", True),
        ("manuals/pump", "manuals/a.pdf", False),
        ("manual", "manuals/a.pdf", False),
        ("a.pdf", "a.pdf", False),
        ("pu\u0308mp", "p\u00fcmp/a.pdf", True),
    ],
)
def test_a_folder_selects_what_lies_in_it(folder: str, file: str, is_in: bool) -> None:
    assert select(Selection(folder=folder), file, f"{folder}/other") - {f"{folder}/other"} == (
        {file} if is_in else set()
    )


def test_a_name_has_one_number_and_names_without_pages_are_not_there() -> None:
    names = FileNames()
    assert [names.number(name) for name in ("a/x.pdf", "b/y.pdf", "a/x.pdf")] == [0, 1, 0] and len(names) == 2
    present = np.array([False, True])
    for gone, param in ((Selection(("a/x.pdf",)), "files"), (Selection(folder="a"), "folder")):
        with pytest.raises(BadValueError, match="take it out of the filter") as refused:
            names.select(gone, present)
        assert refused.value.param == param
        assert not names.select(gone, ~present[:0]).wanted.any(), "an empty collection refuses nothing"
    with pytest.raises(BadValueError, match=r"no file 'gone\.pdf'"):
        names.select(Selection(("b/y.pdf", "gone.pdf")), present)


def test_files_that_came_later_and_pages_that_came_earlier_are_left_out() -> None:
    names = FileNames()
    names.number("a.pdf")
    chosen = names.select(Selection(added_after=5.0), np.array([True]))
    block = make_block([0, 0, 1, 7], [4.0, 5.0, 6.0, 6.0])
    assert chosen.mask_rows(block).tolist() == [False, True, False, False]
