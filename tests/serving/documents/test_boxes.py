from __future__ import annotations

import pytest

from serving.documents.boxes import Direction, bound_boxes, clip_box, turn_box


def test_the_box_around_boxes() -> None:
    assert bound_boxes([(0.1, 0.5, 0.2, 0.6)]) == (0.1, 0.5, 0.2, 0.6)
    assert bound_boxes([(0.6, 0.5, 0.9, 0.6), (0.1, 0.55, 0.2, 0.7)]) == (0.1, 0.5, 0.9, 0.7)


def test_what_is_beside_the_page_is_cut_off() -> None:
    assert clip_box((-0.2, 0.123456, 1.4, 1)) == (0.0, 0.12346, 1.0, 1.0)


@pytest.mark.parametrize(("direction", "back"), [("right", "right"), ("left", "left"), ("down", "up"), ("up", "down")])
def test_a_turned_box_comes_back(direction: Direction, back: Direction) -> None:
    box = (0.1, 0.2, 0.4, 0.25)
    assert turn_box(turn_box(box, direction), back) == pytest.approx(box)
    assert turn_box((0.9, 0.1, 0.95, 0.5), "down") == pytest.approx((0.1, 0.05, 0.5, 0.1)), (
        "the first line is at the right"
    )
