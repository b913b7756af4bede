"""The figures: what each counts, what is drawn hollow, and that kinds differ in more than colour."""

from __future__ import annotations

from typing import Any

import pytest

from bench.coldstart.figures import REST, draw_distribution, draw_dots, draw_phases, render_headline, split_time
from tests.support.cold_start_results import PLAIN_MS, RESTORED_MS, WARM_MS, every_kind, made, sample

UNCOUNTED = {3500.0, 5.0, 777.0, 120_000.0, 0.0}


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_bars_are_medians_on_a_linear_axis_and_only_of_what_counts() -> None:
    figure = draw_phases([made()])
    assert figure.layout.xaxis.type != "log"
    assert figure.layout.barmode == "stack"
    bars = traces(figure)
    assert list(bars) == ["start", "restore", "hold", "queue", "embed", REST]
    assert [label.replace("<br>", " ") for label in bars["start"].y] == ["plain (n=3)", "restored (n=3)", "warm (n=4)"]
    assert list(bars["start"].x) == [800, 0, 0]
    assert list(bars["restore"].x) == [0, 60, 0]
    assert list(bars["embed"].x) == [40, 30, 7]
    assert list(bars[REST].x) == pytest.approx([154.5, 17.5, 2.9])
    assert len({bar.marker.pattern.shape for bar in bars.values()}) == len(bars)


@pytest.mark.parametrize("one", [*every_kind(), sample(1, "plain", 10.0), sample(1, "restored", 200.0, server_ms={
    "restore": 100.0, "wake": 30.0, "hold": 110.0, "tokens": 9.0})])  # fmt: skip
def test_parts_of_a_sample_add_up_to_it(one: Any) -> None:
    found = split_time(one)
    assert sum(found.values()) == pytest.approx(one.client_ms)
    assert min(found.values()) >= 0


def test_a_wake_within_a_restore_is_not_counted_twice() -> None:
    told = {"restore": 100.0, "wake": 30.0, "hold": 110.0, "tokens": 9.0}
    found = split_time(sample(1, "restored", 200.0, server_ms=told))
    assert found == {"restore": 70, "wake": 30, "hold": 10, "tokens": 9, REST: 81}
    away = split_time(sample(1, "restored", 200.0, server_ms={"restore": 100.0, "wake": 30.0}))
    assert away == {"restore": 100, "wake": 30, REST: 70}


def test_the_curves_hold_only_what_counts() -> None:
    figure = draw_distribution([made()])
    assert figure.layout.xaxis.type == "log"
    found = traces(figure)
    assert {name: tuple(trace.x) for name, trace in found.items()} == {
        "plain (n=3)": PLAIN_MS, "restored (n=3)": RESTORED_MS, "warm (n=4)": WARM_MS,
    }  # fmt: skip
    assert tuple(found["warm (n=4)"].y) == (0.25, 0.5, 0.75, 1)
    looks = [(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in figure.data]
    assert all(len(set(each)) == 3 for each in zip(*looks, strict=True))


def test_every_sample_is_a_dot_and_what_does_not_count_is_hollow() -> None:
    figure = draw_dots([made()])
    assert figure.layout.yaxis.type == "log"
    solid = [trace for trace in figure.data if not trace.marker.symbol.endswith("-open")]
    hollow = [trace for trace in figure.data if trace.marker.symbol.endswith("-open")]
    assert sorted(y for trace in solid for y in trace.y) == sorted(PLAIN_MS + RESTORED_MS + WARM_MS)
    assert {y or 0.0 for trace in hollow for y in trace.y} == UNCOUNTED
    assert [trace.name for trace in hollow] == [
        "made the snapshot, not counted (n=1)", "not verified, not counted (n=2)", "failed, not counted (n=1)",
        "not sent, not counted (n=1)",
    ]  # fmt: skip
    assert sum(len(trace.x) for trace in figure.data) == len(every_kind())


def test_two_ways_of_one_kind_differ_too() -> None:
    samples = every_kind() + [sample(40 + n, "restored", 50.0 + n, target="builtin fork") for n in range(2)]
    restored = [trace for trace in draw_distribution([made(samples)]).data if trace.name.startswith("restored")]
    assert len({(trace.line.dash, trace.marker.symbol) for trace in restored}) == 2


@pytest.mark.parametrize("draw", [draw_phases, draw_distribution, draw_dots])
def test_figures_suit_any_page_and_any_text(draw: Any) -> None:
    samples = [sample(n, kind, 9.0, target=f"<b>{n}</b>") for n, kind in enumerate(("plain", "plain", "restored"), 1)]
    figure = draw([made(samples, "<i>x</i>"), made(samples, "<i>x</i>")])
    drawn = str(figure.to_dict())
    assert "&lt;i&gt;" in drawn and "<b>" not in drawn and "<i>" not in drawn
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    for empty in ([], [made([])]):
        assert draw(empty).layout.annotations[0].text == "no sample that counts"


def test_headline() -> None:
    words = render_headline([made()])
    assert words.startswith("restored 9.1x faster than plain (95 % ")
    assert words.endswith("), n=3 and 3")
    fork = [sample(40, "restored", 50.0, target="builtin fork")]
    assert render_headline([made(every_kind() + fork)]) == words.replace("restored", "restored (builtin criu)")
    assert render_headline([made(name="a"), made(name="b")]) == f"a: {words}; b: {words}"


def test_headline_of_what_is_missing() -> None:
    lacking = "restored and plain cannot be compared: no {} start was verified cold{}"
    only = [sample(n, "plain", 100.0) for n in range(3)]
    assert render_headline([made(only)]) == lacking.format("restored", "; plain n=3")
    assert render_headline([made(every_kind()[-4:])]) == lacking.format("plain and no restored", "")
    warm = [sample(10 + n, "warm", 20.0) for n in range(2)]
    assert render_headline([made([*only, *warm])]) == "plain in 100 ms, 5.0x a warm answer (95 % 5.0 to 5.0), n=3 and 2"
    assert render_headline([]) == "no result"


def test_headline_does_not_call_a_slower_one_faster() -> None:
    slow = [sample(n, "plain", 100.0) for n in range(3)] + [sample(9 + n, "restored", 400.0) for n in range(2)]
    assert render_headline([made(slow)]) == "restored 4.0x slower than plain (95 % 4.0 to 4.0), n=2 and 3"
    same = [sample(n, kind, ms) for kind in ("plain", "restored") for n, ms in enumerate((90.0, 100.0, 120.0))]
    assert render_headline([made(same)]).endswith("n=3 and 3: no difference is shown")


@pytest.mark.parametrize(
    ("times", "ticks"),
    [
        ((12.0, 95.0), ["10", "20", "50", "100", "200", "500"]),
        ((0.5, 3000.0), ["0.1", "1", "10", "100", "1,000", "10,000"]),
    ],
)
def test_ticks_of_a_log_axis_are_written_in_full(times: tuple[float, float], ticks: list[str]) -> None:
    figure = draw_distribution([made([sample(n, "plain", ms) for n, ms in enumerate(times)])])
    assert list(figure.layout.xaxis.ticktext) == ticks
