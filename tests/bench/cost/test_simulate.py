"""The simulation's command: its traffic, the seconds it draws from, and its table."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.coldstart.result_file import ResultError
from bench.cost.fleet import Container, Simulation
from bench.cost.prices import DAY_S, MONTH_S, price_machine
from bench.cost.simulate import load_traffic, read_seconds, render_simulation
from tests.support.cold_start_results import PLAIN_MS, RESTORED_MS, every_kind, sample, written


def ask(**given: object) -> argparse.Namespace:
    options = {"days": None, "arrivals": None, "burst": None, "quiet": 3600.0, "requests_per_day": 100.0, "seed": 0}
    return argparse.Namespace(**{**options, **given})


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("0\n80\n3600\n")
    words = ["--arrivals", str(path), "--starts", "10", "--service", "5,5", "--price-per-hour", "36"]
    assert main(["simulate", *words]) == 0
    told = capsys.readouterr().out
    assert "3 requests in 1 days" in told and "weak: fewer than 20" in told and "3 cold starts; 100.0%" in told
    assert "2.25 $" in told and "67.50 $" in told
    words = ["--requests-per-day", "100", "--days", "3", "--starts", "0.3,0.31", "--service", "0.01"]
    assert main(["simulate", *words, "--burst", "60", "--quiet", "6000", "--max-containers", "3"]) == 0
    assert "p99" in capsys.readouterr().out
    measured = str(written(tmp_path))
    assert main(["simulate", *words[:4], "--starts", measured, "--service", "0.01"]) == 0
    assert "cold starts" in capsys.readouterr().out
    assert main(["simulate", "--arrivals", str(path), "--burst", "5", "--starts", "1", "--service", "1"]) == 1
    assert "--burst draws arrivals" in capsys.readouterr().err
    assert main(["simulate", "--requests-per-day", "1", "--starts", "1"]) == 2
    assert "name --starts and --service" in capsys.readouterr().err
    assert main(["simulate", "--requests-per-day", "1", "--starts", "none.json", "--service", "1"]) == 1
    assert "none.json" in capsys.readouterr().err


def test_seconds_are_read_from_words_or_from_a_result_file(tmp_path: Path) -> None:
    assert read_seconds("0.3,0.31") == [0.3, 0.31]
    assert read_seconds(str(written(tmp_path))) == pytest.approx([(ms - 10.5) / 1000 for ms in RESTORED_MS])
    plain = [one for one in every_kind() if one.start_kind != "restored" or one.kind == "warm"]
    assert read_seconds(str(written(tmp_path, plain))) == pytest.approx([ms / 1000 for ms in PLAIN_MS]), (
        "no warm answer"
    )
    with pytest.raises(ResultError, match="no verified cold starts"):
        read_seconds(str(written(tmp_path, [sample(1, "warm", 9.0)])))


def test_traffic_is_of_30_days_or_as_many_as_are_asked_for() -> None:
    arrivals, span_s = load_traffic(ask())
    assert span_s == MONTH_S and len(arrivals) == pytest.approx(3000, rel=0.1) and arrivals == load_traffic(ask())[0]
    arrivals, span_s = load_traffic(ask(days=2.0, burst=60.0))
    assert span_s == 2 * DAY_S and arrivals[-1] < 2 * DAY_S and arrivals == sorted(arrivals)


def test_traffic_of_a_file_is_of_whole_days_unless_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("0\n80\n")
    assert load_traffic(ask(arrivals=path)) == ([0.0, 80.0], None)
    assert load_traffic(ask(arrivals=path, days=7.0)) == ([0.0, 80.0], 7 * DAY_S)


def test_the_table_adds_up_and_is_of_a_month_too() -> None:
    used = Container(0.0, 3600.0, 0.0, serving_s=7200.0, idle_s=1800.0, ended=12_600.0)
    table = render_simulation(Simulation([1.0] * 19, 19, [used], 3 * DAY_S), price_machine("any", 10))
    rows = {line[:12].strip(): line[12:].split() for line in table.splitlines()[2:]}
    assert rows["starting"] == ["1.000", "h", "10.00", "$"] and rows["serving"][:1] == ["2.000"]
    assert rows["total"] == ["3.500", "h", "35.00", "$"] and rows["30 days"] == ["35.000", "h", "350.00", "$"]
    assert "weak: fewer than 20 requests" in table and "1 cold starts; 100.0% of the requests" in table
