"""The page's JavaScript, which stands in ui/static/."""

from __future__ import annotations

import json
from pathlib import Path

from markupsafe import Markup

from ui.components.templates import render_template

STATIC = Path(__file__).parent.parent / "static"


def read_script(name: str) -> str:
    """Return a file of ui/static/: a gr.HTML runs it as `js_on_load`, with its `element`, `trigger` and `watch`."""
    return (STATIC / name).read_text(encoding="utf-8")


def call_script(function: str, *first: object) -> str:
    """Return the `js` of an event that calls a function of ui/static/events.js with `first` and the event's inputs."""
    given = "".join(f"{json.dumps(value)}, " for value in first)
    return f"(...inputs) => window.dormouse.{function}({given}...inputs)"


def render_head() -> Markup:
    """Return what stands in the page's <head>."""
    return render_template("head.html", scripts=[read_script("keys.js"), read_script("events.js")])
