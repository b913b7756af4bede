"""The records of a library: which files a filter selects, and what 1,000 pages take."""

from __future__ import annotations

import pytest

from serving.library.records import TYPES, Selection, Storage, guess_file_type, list_folders


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("a.PDF", "pdf"), ("b.jpg", "jpeg"), ("c.jfif", "jpeg"), ("d.tif", "tiff"), ("e.tar.heif", "heic"),
        ("f.j2k", "jp2"), ("g.docx", "other"), ("no ending", "other"), ("x.image", "other"), ("x.other", "other"),
        (".png", "png"), ("ends.", "other"),
    ],
)  # fmt: skip
def test_type_is_that_of_the_ending(file: str, kind: str) -> None:
    assert guess_file_type(file) == kind and kind in TYPES


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
    assert {file for file in ("a.pdf", "b.png", "c.jpg", "d.docx") if selection.includes(file)} == selected


@pytest.mark.parametrize(
    ("file", "asked"), [("Bro\u0308tchen.pdf", "Br\u00f6tchen.pdf"), ("\u00e9.pdf", "e\u0301.pdf")]
)
def test_a_name_is_found_however_its_letters_are_composed(file: str, asked: str) -> None:
    assert Selection(files=(asked,)).includes(file) and not Selection(files=("x.pdf",)).includes(file)


def test_an_empty_collection_takes_nothing() -> None:
    assert Storage(0, 0, 0).per_1000 == 0 and Storage(4, 3_000, 1_000).per_1000 == 1_000_000


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
    assert Selection(folder=folder).includes(file) == is_in


def test_a_name_lies_in_each_of_its_folders() -> None:
    assert list_folders("manuals/pump/a.pdf") == ["manuals", "manuals/pump"] and list_folders("a.pdf") == []
