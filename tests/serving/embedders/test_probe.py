from __future__ import annotations

import numpy as np
import pytest

from serving.embedders.probe import describe_difference, why_unusable
from tests.support.scripted import unit

VECTORS = np.stack([unit("a", 384), unit("b", 384)]).tolist()


def moved(by: float, row: int = 1) -> list[list[float]]:
    vectors = np.asarray(VECTORS, np.float32)
    vectors[row] += np.float32(by) * unit("elsewhere", 384)
    return vectors.tolist()  # type: ignore[no-any-return]


def test_equal_is_equal_bit_for_bit() -> None:
    assert describe_difference(VECTORS, VECTORS, exact=True) is None
    assert describe_difference(VECTORS, VECTORS, exact=False) is None
    flipped = [list(row) for row in VECTORS]
    flipped[0][5] = float(np.nextafter(np.float32(flipped[0][5]), np.float32(1)))
    assert "differ" in (describe_difference(VECTORS, flipped, exact=True) or "")
    assert describe_difference(VECTORS, flipped, exact=False) is None, "a GPU may round another way"


@pytest.mark.parametrize("row", [0, 1])
def test_a_gpu_may_round_and_not_more(row: int) -> None:
    assert describe_difference(VECTORS, moved(0.02, row), exact=False) is None
    assert "differ" in (describe_difference(VECTORS, moved(0.1, row), exact=False) or "")
    assert "differ" in (describe_difference(VECTORS, (-np.asarray(VECTORS)).tolist(), exact=False) or "")


@pytest.mark.parametrize("bad", [[], [[]], [[0.0, 0.0]], [[float("nan"), 1.0]], [[float("inf"), 1.0]], [1.0, 2.0]])
def test_what_cannot_be_vectors(bad: list[list[float]]) -> None:
    assert why_unusable(bad) is not None and describe_difference([[1.0, 0.0]], bad, exact=False) is not None


def test_shape() -> None:
    assert "shape" in (describe_difference(VECTORS, VECTORS[:1], exact=False) or "")
