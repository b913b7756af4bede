"""A file as pages that are read on demand."""

from __future__ import annotations

from PIL import Image

from serving.documents.page import Page, PageFile
from serving.errors import UnreadableError


def test_a_page_that_cannot_be_read_is_an_error_in_its_place() -> None:
    read: list[int] = []

    def read_page(index: int) -> Page:
        read.append(index)
        if index == 1:
            raise UnreadableError("page 2 is damaged")
        return Page(Image.new("RGB", (index + 1, 1)))

    pages = iter(PageFile(3, read_page))
    assert read == []
    first, second, third = next(pages), next(pages), next(pages)
    assert isinstance(first, Page) and isinstance(third, Page) and read == [0, 1, 2]
    assert isinstance(second, UnreadableError) and second.message == "page 2 is damaged"
