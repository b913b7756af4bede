"""The files of a library's pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.library.library import Library
from serving.library.pictures import SAMPLED_PAGES, Pictures
from tests.support.libraries import at


@pytest.fixture
def library(house: Library) -> Library:
    return house


def test_storage_is_what_lies_on_the_disk(library: Library) -> None:
    found = library.measure_storage(at(library, "house"))
    pictures = sum(path.stat().st_size for path in library.pictures.folder.iterdir())
    assert (found.pages, found.pictures) == (6, pictures)
    assert found.data >= 6 * 64 * 2 + 3 * 2 * 64 * 2 and found.data < 6_000
    assert found.per_1000 == round((found.pictures + found.data) / 6 * 1000)
    assert library.measure_storage(at(library, "nobody")).per_1000 == 0


def test_pictures_of_unknown_pages_go_and_files_of_others_stay(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    kept, lost = "0" * 16, "f" * 16
    for page_id in (kept, lost):
        pictures.write_page(page_id, b"jpeg", b"webp")
    half, own = tmp_path / f"{lost}.jpg.00ff.part", tmp_path / "holiday.jpg"
    half.touch()
    own.touch()
    pictures.remove_unknown({kept})
    assert {path.name for path in tmp_path.iterdir()} == {f"{kept}.jpg", f"{kept}.webp", "holiday.jpg"}
    pictures.remove_pages([kept, lost])
    assert list(tmp_path.iterdir()) == [own]


def test_a_large_collection_is_estimated_from_a_sample(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    ids = [f"{number:016x}" for number in range(1_000)]
    for page_id in ids[:: len(ids) // SAMPLED_PAGES]:
        pictures.write_page(page_id, b"j" * 30, b"w" * 10)
    assert pictures.estimate_bytes(ids) == 40 * len(ids) and pictures.estimate_bytes([]) == 0
