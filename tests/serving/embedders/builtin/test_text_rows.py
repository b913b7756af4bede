from __future__ import annotations

import random

import pytest

from serving.documents.boxes import Box, Direction, bound_boxes, turn_box
from serving.documents.page import Line
from serving.embedders.builtin.text_rows import guess_directions, join_rows

LABELS = ["Invoice", "Customer", "Date", "Total due"]
VALUES = ["AL-2031-77", "Ottilie Wintergreen", "12.03.2031", "2,917.43"]


def cell(text: str, left: float, top: float, width: float | None = None) -> Line:
    return Line(text, (left, top, left + (0.01 * len(text) if width is None else width), top + 0.02))


def texts(rows: tuple[Line, ...]) -> list[str]:
    return [row.text for row in rows]


def test_cells_of_a_row_are_joined() -> None:
    cells = [Line("Total due", (0.1, 0.5, 0.3, 0.52)), Line("2,917.43", (0.8, 0.501, 0.9, 0.521))]
    below = Line("next row", (0.1, 0.6, 0.3, 0.62))
    found = join_rows([*cells, below])
    assert texts(found) == ["Total due 2,917.43", "next row"]
    assert found[0].box == (0.1, 0.5, 0.9, 0.521)
    wide = [*cells, Line("a long remark in the last cell of it", (0.91, 0.5, 0.99, 0.52))]
    assert len(join_rows(wide)) == 1


@pytest.mark.parametrize("order", ["rows", "labels first", "values first", "shuffled"])
def test_rows_are_the_same_whatever_was_drawn_first(order: str) -> None:
    labels = [cell(text, 0.1, 0.1 + 0.04 * n) for n, text in enumerate(LABELS)]
    values = [cell(text, 0.6, 0.1 + 0.04 * n) for n, text in enumerate(VALUES)]
    rows = [piece for pair in zip(labels, values, strict=True) for piece in pair]
    shuffled = random.Random(7).sample(rows, len(rows))
    orders = {"rows": rows, "labels first": labels + values, "values first": values + labels, "shuffled": shuffled}
    found = texts(join_rows(orders[order]))
    assert sorted(found) == sorted(f"{label} {value}" for label, value in zip(LABELS, VALUES, strict=True))
    assert order == "shuffled" or found[-1] == "Total due 2,917.43"


def test_rows_of_a_crooked_scan_are_joined() -> None:
    """Over the width of the page a row sinks by more than its height."""
    rows = [[cell(f"{row} {n}", 0.05 + 0.2 * n, 0.1 + 0.03 * row + 0.009 * n) for n in range(4)] for row in range(4)]
    found = join_rows([piece for row in rows for piece in row])
    assert texts(found) == [" ".join(f"{row} {n}" for n in range(4)) for row in range(4)]


def test_columns_of_prose_stay_apart() -> None:
    prose = "a column of a newspaper that goes on and on"
    assert len(join_rows([Line(prose, (0.1, 0.5, 0.45, 0.52)), Line(prose, (0.55, 0.5, 0.9, 0.52))])) == 2


def test_narrow_columns_stay_apart_and_their_short_last_lines() -> None:
    left = ["The harbour was quiet", "when the first boats", "came in with lanterns", "and the fog was low."]
    right = ["Bakers of the valley", "met on Tuesday to set", "the price of rye, and", "the mayor came late."]
    columns = [cell(text, 0.1, 0.1 + 0.03 * n) for n, text in enumerate([*left, "The end."])]
    columns += [cell(text, 0.4, 0.1 + 0.03 * n) for n, text in enumerate([*right, "No one answered him."])]
    rows = sorted(columns, key=lambda piece: piece.box or ())
    by_row = sorted(columns, key=lambda piece: (piece.box or (0.0, 0.0))[1])
    assert texts(join_rows(rows)) == [piece.text for piece in columns] == texts(join_rows(by_row))
    heading, footer = cell("News of the harbour and the mills", 0.1, 0.05), cell("Page 7", 0.1, 0.9)
    assert texts(join_rows([heading, *by_row, footer])) == [heading.text, *(piece.text for piece in columns), "Page 7"]


def test_a_table_of_long_cells_is_no_text_in_columns() -> None:
    goods = ["Lamp of brass with a shade", "Bulb", "Screws for the ceiling", "Work of two hours"]
    prices = ["17.90", "4.00", "0.80", "96.00"]
    pieces = [cell(text, 0.1, 0.1 + 0.03 * n) for n, text in enumerate(goods)]
    pieces += [cell(text, 0.7, 0.1 + 0.03 * n) for n, text in enumerate(prices)]
    assert texts(join_rows(pieces)) == [f"{good} {price}" for good, price in zip(goods, prices, strict=True)]


def test_a_sheet_of_cells_of_some_words_is_no_text_in_columns() -> None:
    trees = ["Alder 40 trees", "Dogwood 85 trees", "Juniper 26 trees", "Maple 57 trees"]
    rows = [[f"Plot {row:02}", *random.Random(row).sample(trees, 4)] for row in range(6)]
    pieces = [
        cell(text, 0.19 * n, 0.1 + 0.03 * row, 0.15) for row, cells in enumerate(rows) for n, text in enumerate(cells)
    ]
    assert texts(join_rows(pieces)) == [" ".join(cells) for cells in rows]


def test_a_row_that_is_too_long_for_a_line_is_several() -> None:
    row = [cell(f"Juniper {n} trees", 0.01 * n, 0.1, 0.008) for n in range(10, 50)]
    found = texts(join_rows(row, ["right"] * len(row)))
    assert len(found) == 4 and max(map(len, found)) <= 180
    assert " ".join(found) == " ".join(f"Juniper {n} trees" for n in range(10, 50))


@pytest.mark.parametrize("text", ["OBERHUBER MAGDALENA", "4711 0815 2031", "DE89370400440532"])
def test_letters_in_boxes_keep_their_words(text: str) -> None:
    boxes = [
        Line(letter, (0.1 + 0.03 * n, 0.5, 0.11 + 0.03 * n, 0.52)) for n, letter in enumerate(text) if letter != " "
    ]
    assert texts(join_rows([cell("Name", 0.02, 0.5), *boxes])) == [f"Name {text}"]


def test_figures_in_columns_of_a_table_are_no_number() -> None:
    row = [Line(digit, (0.1 + 0.12 * n, 0.5, 0.11 + 0.12 * n, 0.52)) for n, digit in enumerate("12345")]
    assert texts(join_rows(row)) == ["1 2 3 4 5"]


def turn(line: Line, direction: Direction) -> Line:
    """The line of a page that was turned: the reverse of `turn_box`."""
    back: dict[Direction, Direction] = {"right": "right", "left": "left", "down": "up", "up": "down"}
    assert line.box is not None
    return Line(line.text, turn_box(line.box, back[direction]))


@pytest.mark.parametrize("direction", ["right", "left", "down", "up"])
def test_rows_run_as_the_text_does(direction: Direction) -> None:
    upright = [cell(label, 0.1, 0.1 + 0.04 * n, 0.2) for n, label in enumerate(LABELS)]
    upright += [cell(value, 0.6, 0.1 + 0.04 * n, 0.2) for n, value in enumerate(VALUES)]
    turned = [turn(piece, direction) for piece in upright]
    found = join_rows(turned, [direction] * len(turned))
    assert texts(found) == texts(join_rows(upright))
    assert found[0].box == pytest.approx(turn(join_rows(upright)[0], direction).box)
    if direction in ("down", "up"):
        assert guess_directions(turned) == [direction] * len(turned), "told by the order of pieces"


def test_what_has_no_box_stays_where_it_is() -> None:
    assert (
        texts(join_rows([Line("no"), cell("a", 0.1, 0.1), Line("box")])) == ["no", "a", "box"] and join_rows([]) == ()
    )


def test_what_overlaps_is_not_one_row() -> None:
    same: Box = (0.1, 0.5, 0.3, 0.52)
    assert len(join_rows([Line("one over", same), Line("the other", same)])) == 2


@pytest.mark.parametrize(
    ("drawn", "kept"),
    [
        ("7.6 Sandbox . . . . . . . . 125", "7.6 Sandbox … 125"),
        ("Name: _________", "Name: …"),
        ("Wait... -5.0 --x", "Wait... -5.0 --x"),
    ],
)
def test_leaders_are_shortened(drawn: str, kept: str) -> None:
    assert texts(join_rows([cell(drawn, 0.1, 0.1)])) == [kept]


def test_cells_of_a_row_that_is_read_from_the_right() -> None:
    cells = [cell("4711", 0.1, 0.1), cell("رقم الفاتورة", 0.6, 0.1)]
    (row,) = join_rows(cells)
    assert row.text == "رقم الفاتورة 4711" and row.box == bound_boxes(cell.box for cell in cells if cell.box)
