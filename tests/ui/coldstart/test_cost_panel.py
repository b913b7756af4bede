"""The cost section without a browser: what it says and draws is `bench.cost.bill`'s, and input that is none is told."""

from __future__ import annotations

import json
import math
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from bench.cost import bill, figures, prices
from bench.cost.bill import Usage
from serving.settings import Settings
from ui.coldstart import cost_panel
from ui.coldstart.cost_panel import CostInputs, calculate_costs, choose_price, find_measured_start, update_costs
from ui.core.bench_runs import BenchRuns

BURSTS = [burst * 8000.0 + 30.0 * n for burst in range(10) for n in range(50)]


def file(folder: Path, text: str, name: str = "arrivals.csv") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_the_words_that_come_first() -> None:
    said, bars, curve = calculate_costs(CostInputs())
    assert "At 10 requests a day you pay about $16 a month, always-on $1,725." in said
    assert said.index("headline") < said.index("<ul>") and "99% of the requests wait for a start" in said
    assert "Break-even: the bill comes within 1% of always-on at 5,995 requests a day" in said
    assert "No longer window" in said and "read 2026-11-23" in said
    assert bars is not None and curve is not None


def test_the_figures_hold_what_the_command_prints() -> None:
    billed = bill.compute_bill(10.0, Usage(5, 60, 15), prices.price_machine("L40S", None, 4, 32))
    _, bars, curve = calculate_costs(CostInputs())
    assert bars is not None and curve is not None
    drawn = {trace.name: trace.x[0] for trace in bars.data}
    assert sum(drawn[name] for name in drawn if name.split()[0] in ("serving", "idle", "starting")) == pytest.approx(
        billed.total
    )
    assert drawn["always on $1,725"] == pytest.approx(billed.always_on)
    assert drawn[f"scale to zero {bill.format_dollars(billed.total)}"] == pytest.approx(billed.total)
    assert len({trace.marker.pattern.shape for trace in bars.data[:3]}) == 3, "told apart without colour"
    every, yours = curve.data
    assert len(every.x) == len(bill.WINDOWS) + 1 and yours.name == "yours: 60 s"
    assert yours.x[0] == pytest.approx(billed.total)
    for figure in (bars, curve):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_a_file_of_arrivals(tmp_path: Path) -> None:
    path = file(tmp_path, "".join(f"{moment}\n" for moment in BURSTS))
    said, _, curve = calculate_costs(CostInputs(requests=None, file=path, duration=1, start=10))
    assert "At 500 requests a day" in said and "The knee is at a window of 3" in said and curve is not None
    knee = next(trace for trace in curve.data if trace.name.startswith("knee"))
    assert knee.marker.symbol == "star" and knee.x[0] in curve.data[0].x


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"requests": None}, "Enter a number for requests a day."),
        ({"requests": math.nan}, "Enter a number for requests a day."),
        ({"requests": -1}, "Requests a day: -1 is not from 0 to 1e+09."),
        ({"requests": 1e-12}, "Requests a day: 1e-12 is not from"),
        ({"requests": 20_000}, "One container serves fewer than 17,280 requests of 5 s a day."),
        ({"duration": None}, "Enter a number for seconds per request."),
        ({"duration": 0}, "Seconds of a request: 0 is not from"),
        ({"window": -1}, "Seconds of the scaledown window: -1 is not from 0"),
        ({"start": 1e9}, "Seconds of a start: 1e+09 is not from 0 to 86400."),
        ({"cores": -1}, "Cores: -1 is not from 0 to 1024."),
        ({"memory": 1e9}, "GiB of memory: 1e+09 is not from"),
        ({"rate": -2}, "Dollars an hour of the GPU: -2 is not from 0"),
        ({"rate": math.inf}, "Enter a number for the price of the GPU."),
        ({"gpu": "<b>"}, "No price is known for '<b>'"),
    ],
)
def test_absurd_numbers_are_told_and_nothing_is_drawn(asked: dict[str, Any], reason: str) -> None:
    said, bars, curve = calculate_costs(CostInputs(**asked))
    assert reason in unescape(said) and 'role="alert"' in said and bars is None and curve is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "The file has no arrivals."),
        ("0\nsoon\n", "The file, line 2: 'soon' is neither seconds nor ISO 8601."),
        ("5\n2026-01-01\n", "the file mixes seconds and dates."),
        ("5\n\0\n", "The file, line 2"),
        ("1\n" * 50_001, "The file has 50,001 arrivals, and this page takes 50,000"),
    ],
)
def test_bad_files_are_told_without_their_path(tmp_path: Path, text: str, reason: str) -> None:
    said, bars, _ = calculate_costs(CostInputs(file=file(tmp_path, text)))
    assert reason in unescape(said) and str(tmp_path) not in said and bars is None
    assert "No costs were calculated" in calculate_costs(CostInputs(file=str(tmp_path / "gone.csv")))[0]


def test_no_requests_cost_nothing_and_have_no_curve() -> None:
    said, bars, curve = calculate_costs(CostInputs(requests=0))
    assert "At 0 requests a day you pay about $0 a month" in said and bars is not None and curve is None


def test_prices_of_the_list_and_typed_ones() -> None:
    by_list = choose_price(CostInputs(rate=cost_panel.find_rate("L40S")))
    assert by_list == prices.price_machine("L40S", None, 4, 32) and by_list.date == prices.DATE
    typed = choose_price(CostInputs(rate=1.0))
    beside = 3600 * (4 * prices.CORE_PER_S + 32 * prices.GIB_PER_S)
    assert typed.per_hour == pytest.approx(1 + beside) and typed.source == "the GPU's price as entered"
    assert all(
        cost_panel.find_rate(gpu) == pytest.approx(each * 3600, abs=1e-3) for gpu, each in prices.GPU_PER_S.items()
    )


def test_prices_of_an_account() -> None:
    mine = prices.Rates({"L40S": 0.0005, "none": 0.0}, 1e-5, 2e-6, "mine", "today")
    found = choose_price(CostInputs(rate=cost_panel.find_rate("L40S", mine), cores=4, memory=16, rates=mine))
    assert (found.per_hour, found.source) == (pytest.approx(3600 * 0.000572), "mine")
    assert cost_panel.find_rate("H100", mine) is None, "an empty box, not the list's price"
    said, bars, _ = calculate_costs(CostInputs(gpu="H100", rates=mine))
    assert "No price is known for 'H100'" in unescape(said) and bars is None
    assert choose_price(CostInputs(gpu="H100", rate=3.0, cores=0, memory=0, rates=mine)).per_hour == 3.0


def test_an_account_that_cannot_be_asked_leaves_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_TOKEN_ID", "")
    monkeypatch.setenv("MODAL_CONFIG_PATH", "/nonexistent.toml")
    rates, rate, note = cost_panel.use_account_prices("L40S")
    assert rates == rate == gr.skip() and "List prices are kept: no token" in unescape(note) and prices.DATE in note


def test_a_start_is_that_of_the_run_shown(tmp_path: Path) -> None:
    service: Any = SimpleNamespace(runs=BenchRuns(Settings(data=tmp_path).data))
    seconds, note = find_measured_start(service, "builtin")
    assert 0 < seconds < 1 and "has a median start of" in note and "(n=19)" in note
    for run in (None, "", "nobody"):
        seconds, note = find_measured_start(service, run)
        assert seconds == cost_panel.START_S and "is a guess" in note
    folder = tmp_path / "runs" / "empty"
    folder.mkdir(parents=True)
    (folder / "cold_start_results_loaded.json").write_text(json.dumps({"samples": []}))
    assert find_measured_start(service, "empty")[0] == cost_panel.START_S


def test_nothing_is_computed_while_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: CostInputs) -> None:
        raise AssertionError

    monkeypatch.setattr(cost_panel, "calculate_costs", never)
    values = [getattr(CostInputs(), name) for name in CostInputs.__dataclass_fields__]
    assert update_costs(False, *values) == (gr.skip(), gr.skip(), gr.skip())


def test_seconds_are_short() -> None:
    assert [figures.format_seconds(value) for value in (2.0, 2.77, 60.0, 1234.56)] == [
        "2 s",
        "2.8 s",
        "60 s",
        "1235 s",
    ]
