"""The samples of a run as dots, each as soon as it is in the result file, with the medians so far.

Which samples count is decided by `bench.coldstart.result_file`. All functions are pure but `render_run`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup

from bench.coldstart import figures, report
from bench.coldstart.plan import COLD_KINDS
from bench.coldstart.result_file import Result, group_uncounted, load_result, split_series
from bench.coldstart.sample import KINDS, Sample, explain_never_cold
from ui.coldstart.waterfall import Axis, chain_bars
from ui.components import results
from ui.components.templates import render_template

LANES = 5
"""Heights on which dots lie, so that those of one time do not hide each other."""
PLACES = 200
"""Along the axis: dots of one place and height are drawn once."""
WIDE = 100.0
"""An axis that spans more is marked at powers of ten alone."""
TRIES = 2
"""Without a proof until a run in progress warns of it: the first one may have made the snapshot."""


@dataclass
class PlotRow:
    """Samples of one kind and one target. `hollow` are in no figure."""

    label: str
    kind: str
    counted: Sequence[Sample] = ()
    hollow: list[Sample] = field(default_factory=list)


@dataclass(frozen=True)
class RunMarkup:
    """A run so far; empty before its first sample."""

    headline: Markup = results.NOTHING
    dots: Markup = results.NOTHING


@lru_cache(maxsize=8)
def render_run(file: Path, _changed: int, is_running: bool) -> RunMarkup:
    """Render a run once for each `_changed` and all browsers, to leave it undisturbed. Raises ResultError, OSError."""
    result = load_result(file)
    words, warnings = figures.render_headline([result]), find_warnings(result, is_running)
    headline = render_template("coldstart/headline.html", headline=words, warnings=warnings)
    return RunMarkup(headline, render_dots(result, is_running))


def render_dots(result: Result, is_running: bool) -> Markup:
    """Render all samples, and the latest cold start phase by phase."""
    rows = group_rows(result)
    axis = choose_bounds([sample.client_ms for row in rows for sample in (*row.counted, *row.hollow)])
    last = result.samples[-1] if is_running and result.samples else None
    left = ", ".join(f"{why} {len(samples)}" for why, samples in group_uncounted(result).items() if samples)
    marks = [(percent_at(at, axis), f"{at:,.10g}") for at in choose_ticks(axis)]
    places = {"rows": [place_row(row, axis, last) for row in rows], "marks": marks}
    counts = {"count": len(result.samples), "left": left, "cold": describe_latest_cold(result)}
    return render_template("coldstart/samples.html", is_running=is_running, **places, **counts)


def group_rows(result: Result) -> list[PlotRow]:
    """Return rows of the counted samples, an empty one for a kind that has none yet, and one for the rest.

    A sample that is not counted is in the row of those that it would be one of.
    """
    rows = [PlotRow(one.label, one.kind, one.samples) for one in split_series([result])]
    kinds = {row.kind for row in rows}
    rows += [PlotRow(kind, kind) for kind in KINDS if kind not in kinds]
    rows.sort(key=lambda row: KINDS.index(row.kind))
    rest = PlotRow("not counted", "")
    for sample in (one for samples in group_uncounted(result).values() for one in samples if one.client_ms):
        kind = "warm" if sample.kind == "warm" else sample.start_kind
        same = [row for row in rows if row.kind == kind]
        same = [row for row in same if not row.counted or kind == "warm" or row.counted[0].target == sample.target]
        (same or [rest])[0].hollow.append(sample)
    return [*rows, rest] if rest.hollow else rows


def place_row(row: PlotRow, axis: tuple[float, float], last: Sample | None) -> dict[str, object]:
    """Return the template's values, places in percent; warm dots, many and alike, have no tooltip."""
    dots: dict[tuple[int, int, bool], dict[str, object]] = {}
    for hollow, samples in ((False, row.counted), (True, row.hollow)):
        for sample in samples:
            x, lane = percent_at(sample.client_ms, axis), sample.number % LANES
            spot = (round(x * PLACES / 100), lane, hollow)
            if spot not in dots or sample is last:
                looks = "dot" + " hollow" * hollow + " last" * (sample is last)
                named = hollow or sample.kind != "warm"
                title = f"{figures.describe_sample(sample)}: {format_client_ms(sample.client_ms)}" if named else ""
                dots[spot] = {"x": x, "lane": lane, "looks": looks, "title": title}
    found = {"label": row.label, "kind": row.kind, "dots": dots.values(), "median": "", "note": ""}
    if row.counted:
        median = statistics.median(sample.client_ms for sample in row.counted)
        note = f"median of {len(row.counted)}"
        return {**found, "middle": percent_at(median, axis), "median": format_client_ms(median), "note": note}
    return {**found, "note": f"{len(row.hollow)} not counted" if row.hollow else "none yet" if row.kind else ""}


def choose_bounds(times: Sequence[float]) -> tuple[float, float]:
    """Return a round number below the least and one above the most, in ms."""
    if not times:
        return 1.0, 1000.0
    low, high = max(min(times), 0.01), max(max(times), 0.01)
    least = max(at for at in round_numbers(low, low) if at <= low * 1.0001)
    most = min(at for at in round_numbers(high, high) if at >= high)
    return (least, most) if most > least else (least, least * 10)


def choose_ticks(axis: tuple[float, float]) -> list[float]:
    low, high = axis
    steps = (1,) if high / low > WIDE else (1, 2, 5)
    return [at for at in round_numbers(low, high, steps) if low * 0.999 <= at <= high * 1.001]


def round_numbers(low: float, high: float, steps: Sequence[int] = (1, 2, 5)) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    return [step * 10.0**power for power in powers for step in steps]


def percent_at(ms: float, axis: tuple[float, float]) -> float:
    low, high = axis
    return 100 * math.log(max(ms, low) / low) / math.log(high / low)


def describe_latest_cold(result: Result) -> dict[str, object] | None:
    """Return the newest answer of a cold trial, by the phases that it names itself."""
    cold = [sample for sample in result.samples if sample.kind in COLD_KINDS and sample.outcome == "ok"]
    if not cold:
        return None
    sample = cold[-1]
    bars, ends = chain_bars(figures.split_time(sample))
    proof = "verified cold" if sample.counts_as_cold else sample.why_not
    words = " · ".join(word for word in (sample.target, sample.start_kind, proof) if word)
    return {"words": words, "axis": Axis(bars, max(ends, sample.client_ms, 1.0)), "client_ms": sample.client_ms}


def format_client_ms(ms: float) -> str:
    """Return milliseconds as precisely as the report has them."""
    return f"{report.format_ms(ms)} ms"


def find_warnings(result: Result, is_running: bool) -> list[str]:
    """Return a sentence for each server that somebody else keeps warm, while there is time to do something about it."""
    found = []
    for target in result.summary.targets:
        samples = [sample for sample in result.samples if sample.target == target]
        tries = sum(sample.kind in COLD_KINDS for sample in samples)
        if (words := explain_never_cold(samples)) and (tries >= TRIES or not is_running):
            found.append(f"{target}: {words}")
    return found
