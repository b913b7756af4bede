"""Drawn arrivals, files of them, and files that are none."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.cost import arrivals
from bench.cost.arrivals import draw_bursts, draw_poisson


def test_bursts_have_the_mean_that_was_asked_for() -> None:
    found = draw_bursts(2000, 200, 300, 3300, 5)
    assert len(found) == pytest.approx(400_000, rel=0.1) and found == sorted(found)
    assert found[-1] < 200 * 86_400 and found == draw_bursts(2000, 200, 300, 3300, 5)
    gaps = np.diff(found)
    assert gaps.std() > 5 * gaps.mean(), "Poisson has a deviation as large as the mean"


REFUSED: list[Callable[[], object]] = [
    lambda: draw_poisson(1e6, 30, 0),
    lambda: draw_bursts(0, 30, 10, 10, 0),
    lambda: draw_bursts(100, 30, 0, 10, 0),
    lambda: draw_bursts(100, math.nan, 10, 10, 0),
    lambda: draw_bursts(1e6, 30, 10, 10, 0),
]


@pytest.mark.parametrize("wrong", REFUSED)
def test_refused_with_a_sentence(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        wrong()


def test_arrivals_from_files(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_bytes(b"\xef\xbb\xbfarrival,path\n3.5,/embed\n\n1e0,/embed\r\n")
    assert arrivals.read_arrivals(path) == [1.0, 3.5]
    path.write_text("2026-11-24T00:00:10Z\n2026-11-24T01:00:00+01:00\n2026-11-24 00:00:05\n")
    moments = arrivals.read_arrivals(path)
    assert [moment - moments[0] for moment in moments] == [0, 5, 10]
    path.write_text('"2026-11-24 00:00:00,900"\n\t\n" 2026-11-24T00:00:02Z ",x\n')
    assert round(float.__sub__(*arrivals.read_arrivals(path)[::-1]), 3) == 1.1, "a comma within quotes is the value's"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "has no arrivals"),
        (b"time\n", "has no arrivals"),
        (b"time\n1\nsoon\n", "line 3: 'soon' is neither"),
        (b"1\nnan\n", "line 2: 'nan' is not a moment"),
        (b"1\n1e300\n", "line 2"),
        (b'"1,234.5"\n', "line 1: '1,234.5' is neither"),
        (b"1\n2026-11-24\n", "line 2: the file mixes"),
        (b"1\n\xff\xfe\n", "line 2: .* is neither"),
        (b"0\n" * 1_000_001, r"line 1000001: the file has more than 1,000,000"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=why):
        arrivals.read_arrivals(path)
