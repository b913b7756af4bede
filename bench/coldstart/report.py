"""`python -m bench report`: result files as one page that needs nothing but a browser, or two of them side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

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
from bench.templating import create_environment
from serving.system.files import write_file

ABOUT = "result files of cold starts as one HTML page that needs nothing else"
TITLE = "Cold starts"
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
TEMPLATES = create_environment("bench")


def render_page(results: Sequence[Result], title: str) -> str:
    """Return the page. It loads nothing."""
    from plotly.offline import get_plotlyjs

    from bench.coldstart import figures

    where = [result.environment for result in results]
    runs = dict.fromkeys(f"{parse_time(one.time):%Y-%m-%d %H:%M %Z} on {one.machine}" for one in where)
    drawn = figures.draw_phases(results), figures.draw_distribution(results), figures.draw_dots(results)
    part = {"full_html": False, "include_plotlyjs": False, "include_mathjax": False, "config": CONFIG}
    pictures = [
        figure.to_html(div_id=f"figure-{number}", default_height=f"{figure.layout.height}px", **part)
        for number, figure in enumerate(drawn, 1)
    ]
    words = {"title": title, "measured": " and ".join(runs) or "never", "headline": figures.render_headline(results)}
    tables = {"warnings": list_warnings(results), "rows": build_rows(results)}
    named = [(name_result(results, number), result) for number, result in enumerate(results, 1)]
    page = TEMPLATES.get_template("report.html")
    return page.render(plotly=get_plotlyjs(), figures=pictures, results=named, **words, **tables)


def list_warnings(results: Sequence[Result]) -> list[str]:
    """Return what a reader must know first: stopped runs, servers that were never cold, machines that differ."""
    warnings: list[str] = []
    for number, result in enumerate(results, 1):
        if not result.complete:
            name = name_result(results, number)
            warnings.append(f"{name}: stopped before its plan was done; this is what was measured until then")
        targets = result.summary.targets.items()
        warnings += [f"{name}: {figures.never_cold}" for name, figures in targets if figures.never_cold]
    return [*warnings, *filter(None, [explain_machines_differ(results)])]


def explain_machines_differ(results: Sequence[Result]) -> str:
    """Return a sentence if not all were measured on the same kind of machine; else empty."""
    machines = dict.fromkeys(result.environment.machine for result in results)
    return f"the machines differ ({'; '.join(machines)}): the figures do not compare" if len(machines) > 1 else ""


def build_rows(results: Sequence[Result]) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Return for each series its label, and its figures with whether each is marked weak."""
    rows = []
    for one in split_series(results):
        summary, (low, high) = summarise(one.ms), bootstrap_median(one.ms, SEED)
        tails = [(format_ms(getattr(summary, name)), name in summary.weak) for name in ("p95", "p99")]
        sure = [str(summary.n), format_ms(summary.p50), f"{format_ms(low)} to {format_ms(high)}"]
        rows.append((one.label, [*((figure, False) for figure in sure), *tails, (format_ms(summary.max), False)]))
    return rows


def format_ms(ms: float | None) -> str:
    """Return milliseconds as a table has them: `12.3`, `1,234`, `–` for none."""
    return "–" if ms is None else f"{ms:,.0f}" if ms >= 1000 else f"{ms:.1f}"


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
        cells = "".join(f"{format_ms(summary.p50):>12}{summary.n:>6}" for summary in medians)
        ratio = compare_medians(*both)
        words = f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else "–"
        lines.append(f"{kind:<10}{cells}   {words}")
    if machines := explain_machines_differ((a, b)):
        lines.append(f"warning: {make_printable(machines)}")
    return "\n".join(lines)


def make_printable(words: str) -> str:
    """Return a text from a file that cannot steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="result files of the cold-start command")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page; default: %(default)s")
    parser.add_argument("--title", default=TITLE, help="title of the page; default: %(default)s")
    add_compare(parser, "print two results' medians side by side, and write no page unless files are named too")


def add_compare(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"), help=about)


def main(options: argparse.Namespace) -> int:
    """Print the comparison, write the page, and return 0. Raises ResultError."""
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
