"""The real OCR on pages drawn here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from serving.embedders.builtin.ocr import LONG, MIN_SCORE, Ocr, cut_parts, join_boxes
from tests.support.text_pages import LETTER, draw_columns, draw_sheet, find_cjk_font

TURNS = {"right": 0, "left": 180, "up": 90, "down": 270}


def read(ocr: Ocr, image: Image.Image) -> list[str]:
    return [reading.text.replace(" ", "") for reading in ocr.read_pieces(image) if reading.score >= MIN_SCORE]


@pytest.mark.parametrize("direction", TURNS)
def test_text_is_read_whichever_way_up_it_is(ocr: Ocr, direction: str) -> None:
    """Short words too, which read like others upside down, and those as wide as high."""
    words = [*LETTER, "NO", "SOS 69", "7 b"]
    page = draw_sheet(words).rotate(TURNS[direction], expand=True)
    found = [reading for reading in ocr.read_pieces(page) if reading.score >= MIN_SCORE]
    assert {reading.text.replace(" ", "") for reading in found} >= {word.replace(" ", "") for word in [*LETTER, "NO"]}
    assert {reading.direction for reading in found} == {direction}
    line = found[0].make_line(page.size)
    assert line.box is not None
    area = [int(share * side) for share, side in zip(line.box, page.size * 2, strict=True)]
    assert np.asarray(page.convert("L").crop(tuple(area))).min() < 60, "its box lies on ink"  # type: ignore[arg-type]


def test_one_line_of_a_page_may_run_upwards(ocr: Ocr) -> None:
    page = draw_sheet(LETTER)
    page.paste(draw_sheet(["Archive copy shelf 14"], (700, 60), left=10, top=5).rotate(90, expand=True), (1100, 700))
    assert {*read(ocr, page)} >= {"Archivecopyshelf14", LETTER[0].replace(" ", "")}


def test_japanese_in_columns_is_read(ocr: Ocr) -> None:
    if (font := find_cjk_font()) is None:
        pytest.skip("no typeface with Japanese signs is installed")
    columns = ["山の朝は静かに明けた", "猟師は古い小屋で火を", "湯を沸かして茶を飲んだ"]
    page = draw_columns(columns, font)
    assert set(columns) <= set(read(ocr, page)) and set(columns) <= set(read(ocr, page.rotate(180)))


@pytest.mark.parametrize("size", [(900, 9_000), (560, 6_000), (1_200, 16_000)])
def test_a_long_picture_is_read_to_its_end_each_line_once(ocr: Ocr, size: tuple[int, int]) -> None:
    lines = [f"Line number {n} of the receipt" for n in range(size[1] // 110)]
    page = draw_sheet(lines, size, letters=30, left=20, top=30)
    found = [text for text in read(ocr, page) if text.startswith("Line")]
    expected = [line.replace(" ", "") for line in lines if 30 + 54 * int(line.split()[2]) < size[1] - 60]
    assert found == expected


@pytest.mark.parametrize("degrees", [2, 5])
def test_a_long_picture_may_be_tilted(ocr: Ocr, degrees: int) -> None:
    lines = [f"Line number {n} of the receipt" for n in range(90)]
    page = draw_sheet(lines, (900, 5_000), letters=28, left=60, top=60).rotate(degrees, expand=True, fillcolor="white")
    found = [text for text in read(ocr, page) if text.startswith("Line") and text.endswith("receipt")]
    assert len(set(found)) == len(found) >= 86


def test_long_lines_are_read_in_parts(ocr: Ocr) -> None:
    """The recogniser takes memory by the length of a line: 1 GB for one of 400 times its height."""
    words = [f"no{first}{second}e" for first in "aeou" for second in "bdghkmnprsxz"]
    (found,) = ocr.read_pieces(draw_sheet([" ".join(words)], (4_000, 200), letters=22, top=80))
    assert found.text.split() == words


def test_a_wide_strip_is_read_in_whole_lines(ocr: Ocr) -> None:
    line = " ".join(f"word{n}" for n in range(100, 250))
    page = draw_sheet([line], (6_000, 300), letters=44)
    (found,) = read(ocr, page)
    assert found.startswith("word100word101") and len(found) > 200
    assert all(f"word{n}" in found for n in range(100, 130)), "nothing is lost where parts meet"


def test_parts_cover_a_long_picture_and_share_an_edge() -> None:
    assert cut_parts(2_000, 1_414) == [(0, 0, 2_000, 1_414)] and cut_parts(LONG, 10) == [(0, 0, LONG, 10)]
    for height in (LONG + 1, 7_980, 16_080, 65_000):
        parts = cut_parts(1_280, height)
        assert parts[0][1] == 0 and parts[-1][3] == height
        assert all(after[1] < before[3] - 100 for before, after in pairwise(parts))
        assert parts == [(top, left, bottom, right) for left, top, right, bottom in cut_parts(height, 1_280)]


def test_readers_do_not_disturb_each_other(ocr: Ocr) -> None:
    pages = [draw_sheet([f"Page number {n} of eight"], (700, 200), top=50) for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda page: read(ocr, page), pages)) == [[f"Pagenumber{n}ofeight"] for n in range(8)]


@pytest.mark.parametrize("size", [(1, 1), (2_000, 1), (7, 300), (40, 40)])
def test_nothing_is_read_where_nothing_is(ocr: Ocr, size: tuple[int, int]) -> None:
    assert ocr.read_pieces(Image.new("RGB", size, "white")) == []


def test_boxes_of_one_line_are_joined_and_those_of_the_next_are_not() -> None:
    def box(left: float, right: float, slope: float = 0.0, top: float = 0.0) -> np.ndarray:
        return np.asarray(
            [
                (left, top + slope * left),
                (right, top + slope * right),
                (right, top + 30 + slope * right),
                (left, top + 30 + slope * left),
            ],
            np.float32,
        )

    joined = join_boxes(box(0, 500), box(460, 900))
    assert joined is not None and joined.tolist() == [[0, 0], [900, 0], [900, 30], [0, 30]]
    assert join_boxes(box(0, 500), box(520, 900)) is None and join_boxes(box(0, 500), box(0, 500, top=44)) is None
    assert join_boxes(box(0, 900, 0.1), box(0, 900, 0.1, top=44)) is None, "crooked lines below each other"
    crooked = join_boxes(box(0, 500, 0.1), box(460, 900, 0.1))
    assert crooked is not None and np.abs(crooked - box(0, 900, 0.1)).max() < 4
    upright = np.asarray([(0, 0), (30, 0), (30, 500), (0, 500)], np.float32)
    assert join_boxes(upright, upright + np.asarray((0, 460), np.float32)) is not None
