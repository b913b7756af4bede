"""`python -m bench report`: result files as one page that needs nothing but a browser, or two of them side by side.

Every text from a result file is escaped: names, titles and errors come from servers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bench.coldstart.result_file import (
    SEED,
    Result,
    ResultError,
    compare_medians,
    load_result,
    name_result,
    parse_time,
    select_headline,
    split_series,
)
from bench.coldstart.sample import KINDS
from bench.results.stats import bootstrap_median, summarise
from serving.system.files import write_file

if TYPE_CHECKING:
    import plotly.graph_objects as go

ABOUT = "result files of cold starts as one HTML page that needs nothing else"
TITLE = "Cold starts"
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""Content security policy: the browser itself keeps the page from loading anything."""
WEAK = '<span class="weak" title="too few samples for that percentile">{}&nbsp;?</span>'
STYLE = """
:root { color-scheme: light dark; --ink: #211c16; --muted: #6a6053; --line: #e3dcd1; --card: #fff; --page: #fbfaf7;
  --accent: #a85711; --warn: #a4262c; }
@media (prefers-color-scheme: dark) { :root { --ink: #ece7df; --muted: #aaa092; --line: #343a44; --card: #1a1d23;
  --page: #121419; --accent: #f0a35a; --warn: #ff9a9a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 ui-sans-serif, system-ui, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 28px; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 32px 0 4px; }
p { margin: 4px 0; overflow-wrap: anywhere; }
.stored, .note, figcaption { color: var(--muted); font-size: 13px; }
.headline { font-size: 20px; line-height: 1.35; margin: 16px 0; padding-left: 12px;
  border-left: 4px solid var(--accent); }
.warning { color: var(--warn); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 6px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; white-space: normal; min-width: 96px; font-weight: 600; overflow-wrap: anywhere; }
thead th { color: var(--muted); font-weight: 400; font-size: 13px; }
.weak { color: var(--muted); font-style: italic; }
figure { margin: 8px 0 0; padding: 8px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
figcaption { padding: 4px 4px 8px; }
.main-svg text { fill: var(--ink) !important; }
.hoverlayer text { fill: #fbfaf7 !important; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 16px; margin: 8px 0; font-size: 14px; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
"""


def render_page(results: Sequence[Result], title: str) -> str:
    """Return the page. It loads nothing."""
    from plotly.offline import get_plotlyjs

    from bench.coldstart import figures

    drawn = (
        ("Where the time goes", figures.draw_phases(results), "Median of each phase that the server names, and the rest"
         " of the client's time. Medians of phases need not add up to the median of the whole."),
        ("How long it takes", figures.draw_distribution(results), "Share of the answers that came within a time, on the"
         " client's clock."),
        ("Every sample", figures.draw_dots(results), "Samples in the order of time. Hollow ones are in no other figure"
         " and in no number: they made the snapshot, failed, or did not prove a cold start."),
    )  # fmt: skip
    numbers = enumerate(results, 1)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body><main>"
        f"<h1>{escape(title)}</h1>{render_stored(results)}"
        f'<p class="headline">{escape(figures.render_headline(results))}</p>'
        f"{render_warnings(results)}{render_table(results)}"
        + "".join(render_section(heading, figure, caption) for heading, figure, caption in drawn)
        + "".join(render_environment(result, name_result(results, number)) for number, result in numbers)
        + "</main></body></html>\n"
    )


def render_stored(results: Sequence[Result]) -> str:
    """Return when and where it was measured: a reader must not take an old run for the present."""
    found = [
        (f"{parse_time(result.environment.time):%Y-%m-%d %H:%M %Z}", result.environment.machine) for result in results
    ]
    measured = " and ".join(dict.fromkeys(f"{time} on {machine}" for time, machine in found)) or "never"
    return f'<p class="stored">Stored run, not live: measured {escape(measured)}.</p>'


def render_warnings(results: Sequence[Result]) -> str:
    """Return what a reader must know first: stopped runs, servers that were never cold, machines that differ."""
    said: list[str] = []
    for number, result in enumerate(results, 1):
        name = name_result(results, number)
        if not result.complete:
            said.append(f"{name}: stopped before its plan was done; this is what was measured until then")
        said += [f"{target}: {of.never_cold}" for target, of in result.summary.targets.items() if of.never_cold]
    if machines := explain_machines_differ(results):
        said.append(machines)
    return "".join(f'<p class="warning" role="note">{escape(words)}</p>' for words in said)


def explain_machines_differ(results: Sequence[Result]) -> str:
    """Return a sentence if not all were measured on the same kind of machine; else empty."""
    found = list(dict.fromkeys(result.environment.machine for result in results))
    return f"the machines differ ({'; '.join(found)}): the figures do not compare" if len(found) > 1 else ""


def render_table(results: Sequence[Result]) -> str:
    """Return a row of figures for each series, and what they leave out."""
    heads = ("", "n", "p50 ms", "95 % of p50", "p95 ms", "p99 ms", "max ms")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    rows = []
    for one in split_series(results):
        of, (low, high) = summarise(one.ms), bootstrap_median(one.ms, SEED)
        tails = [mark_weak(getattr(of, name), name in of.weak) for name in ("p95", "p99")]
        cells = [str(of.n), format_ms(of.p50), f"{format_ms(low)} to {format_ms(high)}", *tails, format_ms(of.max)]
        cells = [f"<td>{cell}</td>" for cell in cells]
        rows.append(f'<tr><th scope="row">{escape(one.label)}</th>{"".join(cells)}</tr>')
    body = "".join(rows) or f'<tr><td colspan="{len(heads)}">no sample that counts</td></tr>'
    left = "".join(f'<p class="note">{escape(line)}</p>' for line in render_tallies(results))
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="Figures"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="note">Client\'s clock. ? too few samples for that'
        f" percentile.</p>{left}"
    )


def render_tallies(results: Sequence[Result]) -> list[str]:
    """Return a line for each result about its outcomes and what no figure counts."""
    lines = []
    for number, result in enumerate(results, 1):
        of = result.summary.counts
        outcomes = ", ".join(f"{name} {count}" for name, count in sorted(of.outcomes.items()))
        lines.append(
            f"{name_result(results, number)}: {of.verified} verified cold, {of.unverified} not, {of.excluded} made the"
            f" snapshot (not counted); outcomes: {outcomes or 'none'}; {of.failed_tries} failed tries before an answer"
        )
    return lines


def mark_weak(value: float | None, weak: bool) -> str:
    """Return a percentile as markup that says whether too few samples stand behind it."""
    return WEAK.format(format_ms(value)) if weak else format_ms(value)


def format_ms(ms: float | None) -> str:
    """Return milliseconds as a table has them: `12.3`, `1,234`, `–` for none."""
    return "–" if ms is None else f"{ms:,.0f}" if ms >= 1000 else f"{ms:.1f}"


def render_section(heading: str, figure: go.Figure, caption: str) -> str:
    """Return a figure under its heading."""
    ident = heading.lower().replace(" ", "-")
    drawn = figure.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, config=CONFIG, div_id=ident,
        default_height=f"{figure.layout.height}px",
    )  # fmt: skip
    return (
        f'<h2 id="{ident}-title">{heading}</h2><figure aria-labelledby="{ident}-title">'
        f"<figcaption>{escape(caption)}</figcaption>{drawn}</figure>"
    )


def render_environment(result: Result, name: str) -> str:
    """Return the machine and the targets of a result as a list."""
    where = result.environment.model_dump()
    versions = ", ".join(f"{name} {version}" for name, version in where.pop("packages").items())
    rows = {
        **{key.replace("_", " "): str(value) for key, value in where.items()},
        "packages": versions,
        **{target: of.title for target, of in result.summary.targets.items()},
    }
    listed = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows.items() if value)
    return f"<h2>Environment of {escape(name)}</h2><dl>{listed}</dl>"


def render_comparison(a: Result, b: Result) -> str:
    """Return medians side by side in plain text, and A over B: above 1, B is the faster one."""
    lines = [
        f"{side}: {make_printable(one.deployment_name)}, {make_printable(one.environment.time)}"
        + (f", restored as {make_printable(one.headline)}" if select_headline(one, "restored") else "")
        + ("" if one.complete else ", stopped before its plan was done")
        for side, one in (("A", a), ("B", b))
    ]
    lines.append(f"{'':<10}{'A p50 ms':>12}{'n':>6}{'B p50 ms':>12}{'n':>6}   A over B (95 %)")
    for kind in KINDS:
        both = select_headline(a, kind), select_headline(b, kind)
        medians = [summarise([sample.client_ms for sample in samples]) for samples in both]
        cells = "".join(f"{format_ms(of.p50):>12}{of.n:>6}" for of in medians)
        found = compare_medians(*both)
        words = f"{found.value:.2f}x ({found.low:.2f} to {found.high:.2f})" if found else "–"
        lines.append(f"{kind:<10}{cells}   {words}")
    if machines := explain_machines_differ((a, b)):
        lines.append(f"warning: {make_printable(machines)}")
    return "\n".join(lines)


def make_printable(words: str) -> str:
    """Return a text from a file that cannot steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="result files of the cold-start command")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page; default: %(default)s")
    parser.add_argument("--title", default=TITLE, help="of the page; default: %(default)s")
    add_compare(parser, "print two results' medians side by side, and write no page unless files are named too")


def add_compare(parser: argparse.ArgumentParser, about: str) -> None:
    """Add the option `--compare`."""
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"), help=about)


def main(options: argparse.Namespace) -> int:
    """Print the comparison, write the page, and return 0. Raises ResultError, OSError."""
    if not options.files and not options.compare:
        raise ResultError("name a result file, or two with --compare")
    if options.compare:
        a, b = (load_result(file) for file in options.compare)
        print(render_comparison(a, b))
    if options.files:
        if options.out.resolve() in {file.resolve() for file in options.files}:
            raise ResultError(f"{options.out} is one of the result files: write the page elsewhere")
        page = render_page([load_result(file) for file in options.files], options.title)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_file(options.out, page.encode())
        print(f"written to {options.out}")
    return 0
