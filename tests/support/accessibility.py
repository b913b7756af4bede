"""Faults that axe finds on a page."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

GRADIO: dict[tuple[str, str], str] = {}
"""(rule, selector) of serious findings in Gradio's own markup that cannot be mended from outside, with the reason.
There are none in 6.31: its colours come from ui/components/theme.py."""


def serious(page: Page) -> list[tuple[str, str, str]]:
    found = []
    for fault in Axe().run(page).response["violations"]:
        for node in fault["nodes"] if fault["impact"] in ("serious", "critical") else []:
            at = (fault["id"], str(node["target"]))
            if at not in GRADIO:
                found.append((*at, str(node["html"])[:160]))
    return found
