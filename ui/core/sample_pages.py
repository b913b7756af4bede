"""The sample pages that come along, and questions about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SAMPLE_FOLDER = Path(__file__).parents[2] / "assets" / "samples"
SAMPLE_PAGES = 32
"""Of all sample files together; counting them here would need PDFium."""
CHIP_CHARS = 48


def sample_files() -> list[Path]:
    return sorted(path for path in SAMPLE_FOLDER.iterdir() if path.suffix not in (".json", ".md"))


def sample_queries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((SAMPLE_FOLDER / "queries.json").read_text())["queries"]
    return found


def sample_chips() -> list[str]:
    """A few short ones that differ: every kind, spread over the list."""
    found = []
    for kind, share in (("paraphrase", 3), ("language", 2), ("keyword", 1)):
        fitting = [e["query"] for e in sample_queries() if e["kind"] == kind and 12 <= len(e["query"]) <= CHIP_CHARS]
        found += fitting[:: max(1, len(fitting) // share)][:share]
    return found
