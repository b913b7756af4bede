"""Filled fields, comments, stamps and signatures are drawn in the picture, and their text is found at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.documents.files import open_file
from serving.documents.page import Page
from serving.documents.parser_pool import Parse
from serving.settings import Settings
from tests.support.form_pdfs import choice_field, comment, form_pdf, signature, text_field

HIDDEN, PRINT, NO_VIEW = 2, 4, 32


def read_form(tmp_path: Path, settings: Settings, parse: Parse, *annotations: tuple[str, str | None]) -> Page:
    path = tmp_path / "form.pdf"
    path.write_bytes(form_pdf(*annotations))
    return open_file(path, settings, parse).read(0)


def count_dark(page: Page, top: float) -> int:
    """Count the dark pixels of the field whose upper edge is at `top` points."""
    assert page.image is not None
    scale = page.image.height / 842
    box = (0, int((842 - top) * scale), page.image.width, int((862 - top) * scale))
    return sum(page.image.convert("L").crop(box).histogram()[:200])


@pytest.mark.parametrize(
    "annotation",
    [
        text_field("frame KX-90331"), text_field("frame KX-90331", "frame KX-90331"), choice_field("frame KX-90331"),
        choice_field("frame KX-90331", "frame KX-90331"), signature("frame KX-90331"),
        comment("FreeText", "frame KX-90331"), comment("FreeText", "frame KX-90331", "frame KX-90331"),
        comment("Stamp", "a stamp", "frame KX-90331"), text_field("frame KX-90331\\r\\nsecond row"),
    ],
)  # fmt: skip
def test_what_is_filled_in_is_drawn_and_read(
    annotation: tuple[str, str | None], tmp_path: Path, settings: Settings, parse: Parse
) -> None:
    empty = read_form(tmp_path, settings, parse)
    page = read_form(tmp_path, settings, parse, text_field("first"), annotation)
    assert count_dark(empty, 680) == 0 < count_dark(page, 680)
    assert page.lines is not None
    (line,) = [line for line in page.lines if line.text.startswith("frame KX-90331")]
    assert line.box is not None and line.box[1] == pytest.approx((842 - 680) / 842, abs=0.02)
    assert [line.text for line in page.lines][:2] == ["Claim form of the Meadow Society", "first"]


@pytest.mark.parametrize("kind", ["Text", "Highlight", "Underline", "StrikeOut", "Square", "Caret"])
def test_a_note_behind_a_mark_is_read(kind: str, tmp_path: Path, settings: Settings, parse: Parse) -> None:
    page = read_form(tmp_path, settings, parse, comment(kind, "please call Magda"))
    assert page.lines is not None and page.lines[-1].text == "please call Magda"
    assert page.lines[-1].box is not None and page.lines[-1].box[1] == pytest.approx((842 - 720) / 842, abs=0.01)


@pytest.mark.parametrize("flags", [HIDDEN, NO_VIEW])
@pytest.mark.parametrize("kind", ["FreeText", "Text", "Stamp"])
def test_a_hidden_comment_is_not_read(kind: str, flags: int, tmp_path: Path, settings: Settings, parse: Parse) -> None:
    page = read_form(tmp_path, settings, parse, comment(kind, "secret remark", "secret remark", flags))
    assert page.lines is not None and [line.text for line in page.lines] == ["Claim form of the Meadow Society"]
    assert count_dark(page, 720) == 0


def test_a_page_is_the_same_when_it_is_read_again(tmp_path: Path, settings: Settings, parse: Parse) -> None:
    path = tmp_path / "form.pdf"
    path.write_bytes(form_pdf(text_field("Ottilie Wintergreen"), comment("Text", "please call Magda")))
    file = open_file(path, settings, parse)
    first, again = file.read(0), file.read(0)
    assert first.lines == again.lines and first.image is not None and again.image is not None
    assert first.image.tobytes() == again.image.tobytes()
