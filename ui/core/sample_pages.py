"""The sample pages that ship with the page, and questions about them."""

from __future__ import annotations

import json
from pathlib import Path

SAMPLE_FOLDER = Path(__file__).parents[2] / "assets" / "samples"
SAMPLE_PAGES = 32
"""All sample files together have so many; counting them here would need PDFium."""
QUESTION_CHARS = range(12, 49)


def list_sample_files() -> list[Path]:
    return sorted(path for path in SAMPLE_FOLDER.iterdir() if path.suffix not in (".json", ".md"))


def pick_sample_questions() -> list[str]:
    """Return a few short questions of every kind, spread over the list."""
    questions = json.loads((SAMPLE_FOLDER / "queries.json").read_text())["queries"]
    found = []
    for kind, share in (("paraphrase", 3), ("language", 2), ("keyword", 1)):
        fitting = [one["query"] for one in questions if one["kind"] == kind and len(one["query"]) in QUESTION_CHARS]
        found += fitting[:: max(1, len(fitting) // share)][:share]
    return found
