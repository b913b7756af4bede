"""The real Tesseract with five languages (make test-ocr); without it these tests are skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from PIL import Image

from serving.documents.images import decode_image
from serving.documents.page import Line
from serving.embedders.builtin import tesseract as module
from serving.embedders.builtin.tesseract import Tesseract, choose_languages, find_tesseract
from serving.settings import Settings
from tests.support.repository import SAMPLES
from tests.support.script_pages import NOTICES, draw_landscape, draw_notice
from tests.support.tesseract import ADVICE, SCRIPTS, is_missing

needs_tesseract = pytest.mark.skipif(is_missing(), reason=ADVICE)
LATIN_SAMPLES = ("chart-honey-harvest.png", "floor-plan-larch-cottage.png", "notice-water-outage-cuipingyuan.jpg")
"""A chart whose script is not certain, a drawing with words on their side, and a Chinese page."""


@pytest.fixture(scope="module")
def reader() -> Tesseract:
    found = find_tesseract()
    assert found is not None, ADVICE
    return found


def share_of_words(lines: tuple[Line, ...], wanted: list[str]) -> float:
    """Return the share of the wanted words that were read, ignoring spaces between them (Korean ones move)."""
    read = "".join(line.text for line in lines).replace(" ", "")
    words = " ".join(wanted).split()
    return sum(word in read for word in words) / len(words)


@needs_tesseract
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("letters", [34, 16])
def test_a_page_of_each_script_is_read(reader: Tesseract, script: str, letters: int) -> None:
    page = draw_notice(script, letters=letters)
    lines = reader.read_lines(page)
    assert share_of_words(lines, NOTICES[script]) > 0.85
    for row, line in enumerate(lines):  # the maker draws one line in two heights of its letters
        assert line.box is not None
        middle = (line.box[1] + line.box[3]) / 2 * page.height
        assert abs(middle - (3 + 2 * row) * letters) < letters


@needs_tesseract
@pytest.mark.parametrize("script", ["Cyrillic", "Korean"])
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_page_is_read_and_its_boxes_lie_on_it(reader: Tesseract, script: str, turn: int) -> None:
    page = draw_notice(script).rotate(turn, expand=True)
    lines = reader.read_lines(page)
    assert share_of_words(lines, NOTICES[script]) > 0.85
    for line in lines:
        assert line.box is not None
        sizes = (page.width, page.height) * 2
        ink = page.crop(tuple(round(part * size) for part, size in zip(line.box, sizes, strict=True)))
        assert (ink.height > ink.width) == (turn != 180)
        darkest, _ = ink.convert("L").getextrema()
        assert darkest == 0


@needs_tesseract
def test_a_line_of_two_columns_is_two_lines(reader: Tesseract) -> None:
    page = Image.new("RGB", (2000, 900), "white")
    for left in (0, 1000):
        page.paste(draw_notice("Cyrillic", letters=22, size=(1000, 900)), (left, 0))
    lines = reader.read_lines(page)
    assert sorted(line.text for line in lines) == sorted(2 * NOTICES["Cyrillic"])


@needs_tesseract
def test_a_title_alone_is_read(reader: Tesseract) -> None:
    assert [line.text for line in reader.read_lines(draw_notice("Cyrillic", ["Правила пользования"]))] == [
        "Правила пользования"
    ]


@needs_tesseract
def test_lines_between_latin_ones_are_read(reader: Tesseract) -> None:
    lines = reader.read_lines(draw_notice("Cyrillic", [*NOTICES["Latin"], NOTICES["Cyrillic"][1]]))
    assert share_of_words(lines, NOTICES["Cyrillic"][1:2]) > 0.85


@needs_tesseract
@pytest.mark.parametrize("letters", [34, 16])
@pytest.mark.parametrize("script", ["Latin", "Chinese", "Japanese"])
def test_a_page_that_pp_ocr_reads_is_left_to_it(reader: Tesseract, script: str, letters: int) -> None:
    assert reader.read_lines(draw_notice(script, letters=letters)) == ()


@needs_tesseract
@pytest.mark.parametrize("name", LATIN_SAMPLES)
def test_no_sample_is_taken_for_another_script(reader: Tesseract, name: str) -> None:
    assert reader.read_lines(decode_image((SAMPLES / name).read_bytes(), Settings())) == ()


@needs_tesseract
def test_latin_capitals_that_look_cyrillic_or_greek_are_no_text_of_theirs(reader: Tesseract) -> None:
    assert reader.read_lines(draw_notice("Latin", ["BOX PETE CAME HOME", "TOM ATE A PEACH", "MAX ATE POTATO"])) == ()


@needs_tesseract
@pytest.mark.parametrize("page", [draw_landscape(), Image.new("RGB", (900, 1200), "white"), Image.new("RGB", (9, 9))])
def test_a_picture_without_text_has_no_lines(reader: Tesseract, page: Image.Image) -> None:
    assert reader.read_lines(page) == ()


@needs_tesseract
def test_a_page_that_takes_too_long_has_no_lines(reader: Tesseract, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(psutil.Process().children())
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    assert reader.read_lines(draw_notice("Cyrillic")) == ()
    assert set(psutil.Process().children()) <= before


@needs_tesseract
def test_it_is_not_found_where_it_is_not_installed_or_has_no_language(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    assert find_tesseract() is None
    monkeypatch.delenv("TESSDATA_PREFIX")
    assert find_tesseract() is not None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tesseract() is None


@needs_tesseract
def test_it_reads_what_is_installed_after_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = shutil.which("tesseract")
    assert command is not None
    listed = subprocess.run([command, "--list-langs"], capture_output=True, text=True, check=True).stdout
    installed = Path(listed.split('"')[1])
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    shutil.copy(installed / "osd.traineddata", tmp_path)
    assert find_tesseract() is None
    shutil.copy(installed / "rus.traineddata", tmp_path)
    shutil.copytree(installed / "configs", tmp_path / "configs")
    found = find_tesseract()
    assert found is not None and found.scripts == ("Cyrillic",) and not found.reads_english
    assert share_of_words(found.read_lines(draw_notice("Cyrillic")), NOTICES["Cyrillic"]) > 0.85


def test_the_file_for_a_whole_script_stands_for_its_languages() -> None:
    assert choose_languages("Cyrillic", {"eng", "ukr", "rus"}) == ("rus", "ukr")
    assert choose_languages("Cyrillic", {"rus", "script/Cyrillic"}) == ("script/Cyrillic",)
    assert choose_languages("Korean", {"script/Hangul"}) == ("script/Hangul",)
    assert choose_languages("Greek", {"rus"}) == ()
