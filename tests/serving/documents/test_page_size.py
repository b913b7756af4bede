"""How large pages are kept."""

from __future__ import annotations

import random

import pytest

from serving.documents.page_size import JPEG_SIDE, measure_kept_side

LIMITS = 2_000, 20_000_000


@pytest.mark.parametrize("size", [(10, 10), (1240, 1754), (4000, 3000), (5000, 10_000), (14_043, 9_933), (2, 1)])
def test_ordinary_pages_are_bounded_by_their_longer_side(size: tuple[int, int]) -> None:
    assert measure_kept_side(*size, *LIMITS) == 2_000


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        ((800, 7_980), (800, 7_980)),
        ((4_000, 420), (4_000, 420)),
        ((1_280, 16_080), (1_000, 12_562)),
        ((1_240, 30_000), (909, 21_991)),
        ((1, 100_000), (1, JPEG_SIDE)),
        ((65_500, 3_000), (20_894, 957)),
    ],
)
def test_long_pages_keep_a_width_that_can_be_read(size: tuple[int, int], kept: tuple[int, int]) -> None:
    assert shrink(size) == kept
    assert kept[0] * kept[1] <= LIMITS[1]


def test_a_page_that_was_kept_is_kept_as_it_is() -> None:
    """A worker gets the page's picture, and must see the same one."""
    chance = random.Random(5)
    for _ in range(20_000):
        size = chance.randint(1, 12_000), chance.randint(1, 100_000)
        kept = shrink(size)
        assert measure_kept_side(*kept, *LIMITS) >= max(kept), size
        assert max(kept) <= JPEG_SIDE and (max(kept) <= 2_000 or kept[0] * kept[1] <= LIMITS[1])


def shrink(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size that a picture of this one is kept at."""
    side, long = measure_kept_side(*size, *LIMITS), max(size)
    width, height = (max(1, round(length * min(1, side / long))) for length in size)
    return width, height
