"""Absurd numbers for every command of the bench: exit code 2 and a sentence, before anything is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main

ROOT = Path(__file__).parents[2]
COST = "cost --duration 5 --start 15 --requests-per-day"
SIMULATE = "simulate --starts 1 --service 1 --requests-per-day"
ABSURD = [
    "--repetitions -1", "--seed 99999999999",
    f"{COST} -1", f"{COST} nan", f"{COST} 10 --window -1", f"{COST} 10 --window inf", f"{COST} 10 --duration 0",
    f"{COST} 10 --start -5", f"{COST} 10 --seed -1", f"{COST} 10 --always-on-per-hour -1", f"{COST} 10 --cores -4",
    f"{COST} 10 --memory-gib 1e9", f"{COST} 10 --price-per-hour 1e300", f"{COST} 10 --span-days 0",
    f"{SIMULATE} 0", f"{SIMULATE} 9 --days -1", f"{SIMULATE} 9 --burst 0", f"{SIMULATE} 9 --quiet nan",
    f"{SIMULATE} 9 --max-containers 0", f"{SIMULATE} 9 --concurrency 1.5", f"{SIMULATE} 9 --buffer-containers -1",
    f"{SIMULATE} 9 --window -1", f"{SIMULATE} 9 --seed -1", f"{SIMULATE} 9 --price-per-hour -2",
    "speed --rounds 0", "snapshots --rounds -1", "snapshots --pages -1", "weights nowhere --seed -1",
    "parity --a http://a --b http://b --threshold-pages 1.5", "parity --a http://a --b http://b --threshold-queries x",
    "page --pages 9", "page --pages 1001", "page --questions 0", "page --questions x",
    "gpu --seconds 0", "gpu --seconds inf", "gpu --batches 0", "gpu --batches 8,x",
]  # fmt: skip


@pytest.mark.parametrize("words", ABSURD)
def test_refused_with_2_and_a_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert " is not a " in told.err and words.split()[-1] in told.err and not told.out


@pytest.mark.parametrize("words", ["speed --rounds 0", "simulate --validate --window 1e9", "--compare a b --seed 3"])
def test_the_process_ends_with_2(words: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "bench", *words.split()], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 2 and ": error: " in found.stderr and "Traceback" not in found.stderr
