"""Booklets: each question is answered by exactly one page, and the same seed draws the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.speed import booklets
from serving.documents.files import open_file
from serving.documents.parser_pool import Parse
from serving.settings import Settings


def test_each_question_is_about_one_page(tmp_path: Path, parse: Parse) -> None:
    assert len({booklets.pick_subject(number) for number in range(booklets.MOST)}) == booklets.MOST
    assert sum(booklets.split_pages(13)) == 13
    made = booklets.write_booklets(tmp_path, 13)
    files = {path.name: open_file(path, Settings(data=tmp_path), parse) for path in made}
    asked = booklets.write_questions(13, 13)
    assert len({(label.file, label.page) for label in asked}) == 13 == len({label.query for label in asked})
    for label in asked:
        lines = files[label.file].read(label.page - 1).lines
        assert lines is not None
        thing, place = lines[0].text.removeprefix("The ").split(" of ")
        assert thing in label.query and place in label.query


@pytest.mark.parametrize("pages", [booklets.LEAST, 13, 500, booklets.MOST])
def test_pages_are_spread_over_all_files(pages: int) -> None:
    sizes = booklets.split_pages(pages)
    assert len(sizes) == booklets.FILES and sum(sizes) == pages and max(sizes) - min(sizes) <= 1


def test_questions_come_from_all_files_and_in_every_form() -> None:
    asked = booklets.write_questions(500, 60)
    assert {label.file for label in asked} == {booklets.name_booklet(file) for file in range(booklets.FILES)}
    assert all(label.file.endswith(f", {label.kind}.pdf") and 1 <= label.page <= 100 for label in asked)
    assert len({(label.file, label.page) for label in asked}) == 60
    again = booklets.write_questions(10, 25)
    assert len({(label.file, label.page) for label in again}) == 10, "more questions than pages ask some pages again"


def test_the_same_seed_draws_the_same_files(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        (tmp_path / name).mkdir()
        contents.append([path.read_bytes() for path in booklets.write_booklets(tmp_path / name, 10, seed)])
    assert contents[0] == contents[1] != contents[2] and len(contents[0]) == booklets.FILES
