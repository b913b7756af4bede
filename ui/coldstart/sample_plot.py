"""The samples of a run as dots, each as soon as it is in the result file, with the medians so far.

Pure functions but for `told`. What counts, and what does not, is what `bench.coldstart.result_file` says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup

from bench.coldstart import figures
from bench.coldstart.plan import COLD_KINDS
from bench.coldstart.result_file import Result, group_uncounted, load_result, split_series
from bench.coldstart.sample import KINDS, Sample, explain_never_cold
from ui.coldstart.waterfall import Axis, after_each_other
from ui.components import results
from ui.components.templates import render_template

LANES = 5
"""Heights on which dots lie, so that those of one time do not hide each other."""
PLACES = 200
"""Along the axis: dots of one place and height are drawn once."""
WIDE = 100.0
"""An axis that spans more has powers of ten alone."""
TRIES = 2
"""Without a proof until a run that goes on says so: the first one may have made the snapshot."""


@dataclass
class Row:
    """Samples of one kind of one way of coming back. `hollow` are in no figure."""

    label: str
    kind: str
    counted: Sequence[Sample] = ()
    hollow: list[Sample] = field(default_factory=list)


@dataclass(frozen=True)
class Dot:
    """One sample: where it is on the axis in percent, on which height, its CSS classes, and its tooltip."""

    x: float
    lane: int
    looks: str
    title: str


@dataclass(frozen=True)
class Told:
    """A run so far, as markup; empty before its first sample."""

    headline: Markup = results.NOTHING
    dots: Markup = results.NOTHING


@lru_cache(maxsize=8)
def told(file: Path, changed: int, going: bool) -> Told:
    """Read and render a run once for each `changed` (of its file) and all browsers: watching must not disturb it.

    Raises ResultError, OSError.
    """
    result = load_result(file)
    headline, found = figures.render_headline([result]), warnings(result, going)
    return Told(render_template("coldstart/headline.html", headline=headline, warnings=found), dots(result, going))


def dots(result: Result, going: bool) -> Markup:
    """Render all samples, and the latest cold start phase by phase."""
    found = rows(result)
    times = [sample.client_ms for row in found for sample in (*row.counted, *row.hollow)]
    axis = bounds(times)
    last = result.samples[-1] if going and result.samples else None
    left = ", ".join(f"{why} {len(samples)}" for why, samples in group_uncounted(result).items() if samples)
    return render_template(
        "coldstart/samples.html", going=going, count=len(result.samples), left=left, cold=latest_cold(result),
        rows=[drawn_row(row, axis, last) for row in found],
        marks=[(place(at, axis), f"{at:,.10g}") for at in marks(axis)],
    )  # fmt: skip


def rows(result: Result) -> list[Row]:
    """Return rows of what is counted, an empty one for a kind that has none yet, and one for what fits nowhere."""
    found = [Row(one.label, one.kind, one.samples) for one in split_series([result])]
    kinds = {row.kind for row in found}
    found += [Row(kind, kind) for kind in KINDS if kind not in kinds]
    found.sort(key=lambda row: KINDS.index(row.kind))
    rest = Row("not counted", "")
    for samples in group_uncounted(result).values():
        for sample in samples:
            if sample.client_ms:
                home(found, sample, rest).hollow.append(sample)
    return [*found, rest] if rest.hollow else found


def home(found: Sequence[Row], sample: Sample, rest: Row) -> Row:
    """Return the row of a sample that is not counted: beside those that it would be one of."""
    kind = "warm" if sample.kind == "warm" else sample.start_kind
    of = [row for row in found if row.kind == kind]
    same = [row for row in of if not row.counted or kind == "warm" or row.counted[0].target == sample.target]
    return same[0] if same else rest


def drawn_row(row: Row, axis: tuple[float, float], last: Sample | None) -> dict[str, object]:
    """Return what the template shows of a row: places in percent of the axis."""
    painted: dict[tuple[int, int, bool], Dot] = {}
    for hollow, samples in ((False, row.counted), (True, row.hollow)):
        for sample in samples:
            x = place(sample.client_ms, axis)
            spot = (round(x * PLACES / 100), sample.number % LANES, hollow)
            if spot not in painted or sample is last:
                painted[spot] = dot(sample, x, hollow, sample is last)
    found = {"label": row.label, "kind": row.kind, "dots": painted.values(), "median": "", "note": ""}
    if row.counted:
        median = statistics.median(sample.client_ms for sample in row.counted)
        note = f"median of {len(row.counted)}"
        return {**found, "middle": place(median, axis), "median": figure(median), "note": note}
    return {**found, "note": f"{len(row.hollow)} not counted" if row.hollow else "none yet" if row.kind else ""}


def dot(sample: Sample, x: float, hollow: bool, last: bool) -> Dot:
    """Return the dot of a sample. Warm ones are many and alike: they have no tooltip."""
    looks = " ".join(name for name, true in (("dot", True), ("hollow", hollow), ("last", last)) if true)
    title = f"{figures.describe_sample(sample)}: {figure(sample.client_ms)}" if sample.kind != "warm" or hollow else ""
    return Dot(x, sample.number % LANES, looks, title)


def bounds(times: Sequence[float]) -> tuple[float, float]:
    """Return a round number below the least and one above the most, in ms."""
    if not times:
        return 1.0, 1000.0
    low, high = max(min(times), 0.01), max(max(times), 0.01)
    down = [step * 10.0 ** math.floor(math.log10(low)) for step in (1, 2, 5)]
    up = [step * 10.0 ** math.floor(math.log10(high)) for step in (1, 2, 5, 10)]
    least = max(at for at in down if at <= low * 1.0001)
    most = min(at for at in up if at >= high)
    return (least, most) if most > least else (least, least * 10)


def marks(axis: tuple[float, float]) -> list[float]:
    low, high = axis
    steps = (1,) if high / low > WIDE else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [at for power in powers for step in steps if low * 0.999 <= (at := step * 10.0**power) <= high * 1.001]


def place(ms: float, axis: tuple[float, float]) -> float:
    """Return the place of a time in percent of the axis."""
    low, high = axis
    return 100 * (math.log10(max(ms, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))


def latest_cold(result: Result) -> dict[str, object] | None:
    """Return the newest answer of a cold trial, by the phases that it names itself."""
    cold = [sample for sample in result.samples if sample.kind in COLD_KINDS and sample.outcome == "ok"]
    if not cold:
        return None
    sample = cold[-1]
    bars, ends = after_each_other(figures.split_time(sample))
    proof = "verified cold" if sample.counts_as_cold else sample.why_not
    words = " · ".join(word for word in (sample.target, sample.start_kind, proof) if word)
    return {"words": words, "axis": Axis(bars, max(ends, sample.client_ms, 1.0)), "client_ms": sample.client_ms}


def figure(ms: float) -> str:
    return f"{ms:,.0f} ms" if ms >= 1000 else f"{ms:.1f} ms"


def warnings(result: Result, going: bool) -> list[str]:
    """Return a sentence for each server that somebody else keeps warm, while there is time to do something about it."""
    said = []
    for target in result.summary.targets:
        of = [sample for sample in result.samples if sample.target == target]
        tries = sum(sample.kind in COLD_KINDS for sample in of)
        if (words := explain_never_cold(of)) and (tries >= TRIES or not going):
            said.append(f"{target}: {words}")
    return said
