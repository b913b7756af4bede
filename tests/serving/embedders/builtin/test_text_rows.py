from __future__ import annotations

from serving.documents.page import Line
from serving.embedders.builtin.text_rows import join_rows


def test_cells_of_a_row_are_joined() -> None:
    cells = [Line("Total due", (0.1, 0.5, 0.3, 0.52)), Line("2,917.43", (0.8, 0.501, 0.9, 0.521))]
    below = Line("next row", (0.1, 0.6, 0.3, 0.62))
    found = join_rows([*cells, below])
    assert [row.text for row in found] == ["Total due 2,917.43", "next row"]
    assert found[0].box == (0.1, 0.5, 0.9, 0.521)
    wide = [*cells, Line("a long remark in the last cell of it", (0.91, 0.5, 0.99, 0.52))]
    assert len(join_rows(wide)) == 1


def test_columns_of_prose_stay_apart() -> None:
    prose = "a column of a newspaper that goes on and on"
    assert len(join_rows([Line(prose, (0.1, 0.5, 0.45, 0.52)), Line(prose, (0.55, 0.5, 0.9, 0.52))])) == 2


def test_what_has_no_box_or_stands_before_stays_as_it_is() -> None:
    assert len(join_rows([Line("no"), Line("box")])) == 2 and join_rows([]) == ()
    assert len(join_rows([Line("right", (0.5, 0.5, 0.6, 0.52)), Line("left", (0.1, 0.5, 0.2, 0.52))])) == 2
