"""The bench of a manual: what a release is charged for, and which release runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.speed import manual

BUSY = "import time\nend = time.process_time() + 1.0\nwhile time.process_time() < end: pass\n"


def test_time_of_processes_that_end_meanwhile_counts() -> None:
    with manual.count_processor_time(os.getpid()) as spent:
        subprocess.run([sys.executable, "-c", BUSY + "time.sleep(2 * 0.5)"], check=True)
    assert 0.9 < sum(spent.values()) < 30


def test_without_a_manual_booklets_are_added() -> None:
    with manual.choose_manual(None) as files:
        assert sum(map(manual.count_pages, files)) == manual.MADE_UP_PAGES
    assert not any(path.exists() for path in files)


@pytest.mark.long
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_release_adds_all_pages_of_its_own_folder(capfd: pytest.CaptureFixture[str]) -> None:
    """The same folder stands for an older one: both runs are whole, and told beside each other."""
    said: list[str] = []
    samples = Path(__file__).parents[3] / "assets" / "samples"
    figures = manual.measure_manual(said.append, samples / "handbook-tarnwell-pump.pdf", samples.parents[1])
    assert figures["pages"] == manual.count_pages(samples / "handbook-tarnwell-pump.pdf")
    assert figures["older"]["cpu_s_a_page"] > 0 < figures["ours"]["pages_a_minute"]
    assert [line.partition(":")[0] for line in said[:2]] == ["older", "ours"] and "goal 3 or more" in said[2]
