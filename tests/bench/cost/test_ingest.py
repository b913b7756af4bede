"""Many pages at once: when the last is embedded, and whose time is paid."""

from __future__ import annotations

import random

import pytest

from bench.__main__ import main
from bench.cost.fleet import Fleet
from bench.cost.ingest import Ingest, IngestOutcome, find_end, simulate_ingest


def walk(ingest: Ingest, ready: list[float], step: float = 0.001) -> float:
    """When the last page is embedded, found in small steps."""
    done, now = 0.0, 0.0
    while done < ingest.pages:
        rate = ingest.pages_per_s * sum(at <= now for at in ready)
        done += step * min(rate, ingest.read_per_s or rate)
        now += step
    return now


def test_one_container_starts_embeds_and_idles() -> None:
    outcome = simulate_ingest(Ingest(1000, 10.0), Fleet(1), [5.0], 0)
    assert outcome == IngestOutcome(105.0, 5.0, 100.0, 60.0)


def test_containers_share_the_pages_and_wait_for_a_slow_reader() -> None:
    assert simulate_ingest(Ingest(1000, 10.0), Fleet(4), [5.0], 0) == IngestOutcome(30.0, 20.0, 100.0, 240.0)
    slow = simulate_ingest(Ingest(1000, 10.0, read_per_s=20.0), Fleet(4), [5.0], 0)
    assert slow == IngestOutcome(55.0, 20.0, 100.0, 4 * 50.0 - 100.0 + 240.0)


def test_who_is_up_too_late_is_paid_and_does_nothing() -> None:
    assert find_end(Ingest(10, 10.0), [1.0, 30.0]) == 2.0
    outcome = simulate_ingest(Ingest(10, 10.0), Fleet(2, window_s=0.0), [1.0], 0)
    assert outcome == IngestOutcome(1.5, 2.0, 1.0, 0.0)


def test_it_takes_as_long_as_in_small_steps() -> None:
    draw = random.Random(3)
    for _ in range(20):
        ready = sorted(draw.uniform(0, 8) for _ in range(draw.randint(1, 6)))
        read = draw.choice([None, draw.uniform(5, 40)])
        ingest = Ingest(draw.randint(1, 300), draw.uniform(1, 20), read)
        assert find_end(ingest, ready) == pytest.approx(walk(ingest, ready), abs=0.01)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "--ingest-pages", "1000", "--starts", "5", "--price-per-hour", "36"]
    assert main([*words, "--pages-per-s", "10", "--max-containers", "4", "--window", "60"]) == 0
    told = capsys.readouterr().out
    assert "1,000 pages, 4 containers" in told and "0.008 h" in told and "3.60 $" in told and "3.6000 $" in told
    assert main(words) == 2
    assert "name --starts and --pages-per-s" in capsys.readouterr().err
    for wrong in (["--ingest-pages", "0"], ["--ingest-pages", "5", "--requests-per-day", "3"]):
        with pytest.raises(SystemExit):
            main(["simulate", *wrong, "--starts", "5", "--pages-per-s", "1"])
