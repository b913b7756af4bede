"""A table of what a person waits for whose server takes a while, from a recorded run of `python -m bench page`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

from ui.components.templates import render_template

FILE = "page-builtin.json"
TITLE = "What a person waits"
HEADS = (
    "the server takes",
    "first results, median",
    "95 % within",
    "final ranking, median",
    "n",
    "of three, stayed",
)


def render_table(runs: Path) -> Markup:
    """Render the run in the folder; empty where there is none, or one of another shape."""
    try:
        run: dict[str, Any] = orjson.loads((runs / FILE).read_bytes())
        rows = [describe_wait(wait) for wait in run["slow_servers"]]
        about = (
            f"Stored run of {run['environment']['time'][:10]}: from Enter to the frame that shows it, in a browser on"
            f" two cores with the page, {run['pages']:,} pages. First results are found by the words of the pages, and"
            " give way to the server's ranking; of the first three, so many were among its first three."
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Markup()
    return render_template(
        "coldstart/recorded.html", title=TITLE, heads=HEADS, runs=[{"machine": "", "rows": rows, "about": about}]
    )


def describe_wait(wait: dict[str, Any]) -> dict[str, Any]:
    first, final = wait["enter_to_first"], wait["enter_to_final"]
    times = [f"{first['p50_ms'] / 1000:.2f} s", f"{first['p95_ms'] / 1000:.2f} s", f"{final['p50_ms'] / 1000:.2f} s"]
    stayed = f"{3 * wait['of_first_three_stayed']:.1f}"
    return {"head": f"{wait['server_s']:g} s", "cells": [*times, str(first["n"]), stayed]}
