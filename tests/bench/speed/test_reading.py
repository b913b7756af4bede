"""The bench of reading, on a few pages: all are read and kept, and what they cost is counted."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.speed import booklets, reading
from tests.support.repository import SAMPLES


def test_each_kind_is_read_kept_and_counted(tmp_path: Path) -> None:
    options = argparse.Namespace(pages=booklets.LEAST, manual=SAMPLES / "handbook-tarnwell-pump.pdf")
    said: list[str] = []
    found = reading.measure_reading(options, said.append)["kinds"]
    assert list(found) == ["text_layer", "scan", "given"] and len(said) == 3
    assert found["text_layer"]["pages"] == found["scan"]["pages"] == booklets.LEAST
    for kind in found.values():
        assert 0 < kind["cpu_s_a_page"] < 10 and kind["picture_kb"] > 1
