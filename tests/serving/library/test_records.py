"""The records of a library: types and folders of files, and what 1,000 pages take."""

from __future__ import annotations

import pytest

from serving.library.records import TYPES, Storage, guess_file_type, list_folders


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


def test_an_empty_collection_takes_nothing() -> None:
    assert Storage(0, 0, 0).per_1000 == 0 and Storage(4, 3_000, 1_000).per_1000 == 1_000_000


def test_a_name_lies_in_each_of_its_folders() -> None:
    assert list_folders("manuals/pump/a.pdf") == ["manuals", "manuals/pump"] and list_folders("a.pdf") == []
