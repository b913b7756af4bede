"""The samples of a run as dots, each as soon as it is in the result file, with the medians so far.

Pure functions but for `told`; every text that is not ours is escaped. What counts, and what does not, is what
`bench.coldstart.result_file` says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from pathlib import Path

from bench.coldstart import figures
from bench.coldstart.plan import COLD_KINDS
from bench.coldstart.result_file import Result, group_uncounted, load_result, split_series
from bench.coldstart.sample import KINDS, Sample, explain_never_cold
from ui.coldstart.waterfall import after_each_other, falls, milliseconds

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
class Told:
    """A run so far, as markup; empty before its first sample."""

    headline: str = ""
    dots: str = ""


@lru_cache(maxsize=8)
def told(file: Path, changed: int, going: bool) -> Told:
    """Read and drawn once for each `changed` (of the file) and all browsers: a run must not feel who looks at it.

    Raises ResultError, OSError.
    """
    result = load_result(file)
    headline = f'<p class="headline">{escape(figures.render_headline([result]))}</p>{warning(result, going)}'
    return Told(headline, dots(result, going))


def dots(result: Result, going: bool) -> str:
    found = rows(result)
    times = [sample.client_ms for row in found for sample in (*row.counted, *row.hollow)]
    axis = bounds(times)
    last = result.samples[-1] if result.samples else None
    drawn = "".join(drawn_row(row, axis, last if going else None) for row in found)
    left = ", ".join(f"{why} {len(samples)}" for why, samples in group_uncounted(result).items() if samples)
    hollow = f'<p class="note">Hollow, and in no figure: {left}.</p>' if left else ""
    ticks = "".join(f'<span style="--x:{place(at, axis):.1f}">{at:,.10g}</span>' for at in marks(axis))
    return (
        f'<section class="samples" aria-label="Samples of the run"><h3>{"Samples so far" if going else "Samples"}'
        f" <small>{len(result.samples)}, client's time in ms, log scale</small></h3><ol>{drawn}</ol>"
        f'<div class="ms-axis" aria-hidden="true">{ticks}</div>{hollow}'
        f"{latest_cold(result)}</section>"
    )


def rows(result: Result) -> list[Row]:
    """Those that are counted, an empty one for a kind that has none yet, and one for what fits nowhere."""
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
    """Where one that is not counted is drawn: beside those that it would be one of."""
    kind = "warm" if sample.kind == "warm" else sample.start_kind
    of = [row for row in found if row.kind == kind]
    same = [row for row in of if not row.counted or kind == "warm" or row.counted[0].target == sample.target]
    return same[0] if same else rest


def drawn_row(row: Row, axis: tuple[float, float], last: Sample | None) -> str:
    painted: dict[tuple[int, int, bool], str] = {}
    for hollow, samples in ((False, row.counted), (True, row.hollow)):
        for sample in samples:
            x = place(sample.client_ms, axis)
            spot = (round(x * PLACES / 100), sample.number % LANES, hollow)
            if spot not in painted or sample is last:
                painted[spot] = dot(sample, x, hollow, sample is last)
    middle, said = "", "<small>none yet</small>" if row.kind else ""
    if row.counted:
        median = statistics.median(sample.client_ms for sample in row.counted)
        middle = f'<u style="--x:{place(median, axis):.1f}"></u>'
        said = f"<b>{figure(median)}</b> <small>median of {len(row.counted)}</small>"
    elif row.hollow:
        said = f"<small>{len(row.hollow)} not counted</small>"
    return (
        f'<li data-kind="{row.kind or "rest"}"><span>{escape(row.label)}</span>'
        f'<span class="track" aria-hidden="true">{middle}{"".join(painted.values())}</span><span>{said}</span></li>'
    )


def dot(sample: Sample, x: float, hollow: bool, last: bool) -> str:
    """Warm ones are many, and each is like the others: they say nothing when pointed at."""
    looks = "".join(f" {name}" for name, true in (("hollow", hollow), ("last", last)) if true)
    words = f"{figures.describe_sample(sample)}: {figure(sample.client_ms)}".replace('"', "&quot;")
    title = f' title="{words}"' if sample.kind != "warm" or hollow else ""
    return f'<i class="dot{looks}" style="--x:{x:.1f};--lane:{sample.number % LANES}"{title}></i>'


def bounds(times: Sequence[float]) -> tuple[float, float]:
    """A round number below the least and one above the most, in ms."""
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
    """Percent of the axis."""
    low, high = axis
    return 100 * (math.log10(max(ms, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))


def latest_cold(result: Result) -> str:
    """The newest answer of a cold trial, by the phases that it names itself."""
    cold = [sample for sample in result.samples if sample.kind in COLD_KINDS and sample.outcome == "ok"]
    if not cold:
        return ""
    sample = cold[-1]
    bars, ends = after_each_other(figures.split_time(sample))
    proof = "verified cold" if sample.counts_as_cold else sample.why_not
    words = " · ".join(word for word in (sample.target, sample.start_kind, proof) if word)
    return (
        f'<div class="waterfall"><h3>Latest cold start <small>{escape(words)}</small></h3>'
        f"{falls(bars, max(ends, sample.client_ms, 1.0))}"
        f'<p class="total" data-total="{sample.client_ms:.1f}">Answered after <b>{milliseconds(sample.client_ms)}</b>,'
        " on the client's clock.</p></div>"
    )


def figure(ms: float) -> str:
    return f"{ms:,.0f} ms" if ms >= 1000 else f"{ms:.1f} ms"


def warning(result: Result, going: bool) -> str:
    """That somebody else keeps a server warm, while there is time to do something about it. Markup."""
    said = []
    for target in result.summary.targets:
        of = [sample for sample in result.samples if sample.target == target]
        tries = sum(sample.kind in COLD_KINDS for sample in of)
        if (words := explain_never_cold(of)) and (tries >= TRIES or not going):
            said.append(f'<p class="warning" role="note">{escape(f"{target}: {words}")}</p>')
    return "".join(said)
