"""Sentences that say the same in nine languages, twelve in each: what is common to languages is measured on them."""

from __future__ import annotations

import json
from pathlib import Path

SENTENCES = Path(__file__).with_name("parallel_texts.json")


def load_sentences() -> dict[str, list[str]]:
    """Return the sentences by language, in one order."""
    found: dict[str, list[str]] = json.loads(SENTENCES.read_text(encoding="utf-8"))
    return found
