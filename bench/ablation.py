"""What each part of the built-in ranking brings: language taken out, lines counted, both, neither.

Reads and embeds the corpus once, inside this process, and ranks it in several ways. For whoever changes a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.quality import Label, Outcome, labels, page_files, table, text
from serving.embedders import Vectors
from serving.embedders.builtin import MIN_LETTERS, MIN_LINE_LETTERS, Builtin, letters, page_text
from serving.embedders.neutral import CENTRE, SHRINK, Neutral
from serving.pages import Page, open_file
from serving.ranking import LINE_WEIGHT
from serving.rows import rows
from serving.settings import Settings


@dataclass(frozen=True)
class Variant:
    name: str
    centre: float
    shrink: float
    line_weight: float


VARIANTS = (
    Variant("e5 alone, one vector a page", 0.0, 0.0, 0.0),
    Variant("less language", CENTRE, SHRINK, 0.0),
    Variant("lines counted", 0.0, 0.0, LINE_WEIGHT),
    Variant("both (as shipped)", CENTRE, SHRINK, LINE_WEIGHT),
    Variant("both, half of the language", CENTRE, 0.5, LINE_WEIGHT),
    Variant("both, all of the language", CENTRE, 1.0, LINE_WEIGHT),
    Variant("both, more weight on lines", CENTRE, SHRINK, 0.6),
)


@dataclass(frozen=True)
class Raw:
    """A page as e5 gives it: float32[384], and float32[n, 384] for its lines."""

    key: tuple[str, int]
    page: Vectors
    lines: Vectors


def read(corpus: Path, limits: Settings) -> tuple[list[Raw], dict[str, Vectors]]:
    """Pages with readable text, and the queries."""
    embedder = Builtin(limits)
    embedder.load()
    e5 = embedder._e5
    found = []
    for path in page_files(corpus):
        for number, page in enumerate(open_file(path, limits), 1):
            assert isinstance(page, Page)
            lines = rows(page.lines if page.lines is not None else embedder.read(page.image))
            words = page_text(lines)
            if letters(words) >= MIN_LETTERS:
                telling = [line.text for line in lines if letters(line.text) >= MIN_LINE_LETTERS]
                found.append(Raw((path.name, number), e5.passage(words), e5.passage(telling)))
    return found, {label.query: e5.query(label.query) for label in labels(corpus)}


def ranked(raw: Sequence[Raw], queries: dict[str, Vectors], wanted: Sequence[Label], variant: Variant) -> list[Outcome]:
    shipped = Neutral.load()
    neutral = Neutral(shipped.mean, shipped.directions, variant.centre, variant.shrink)
    matrix = np.stack([neutral(page.page) for page in raw])
    lines = [neutral(page.lines) for page in raw]
    keys = [page.key for page in raw]
    outcomes = []
    for label in wanted:
        query = neutral(queries[label.query])
        best = np.array([(vectors @ query).max() for vectors in lines])
        scores = (1 - variant.line_weight) * (matrix @ query) + variant.line_weight * best
        right = keys.index((label.file, label.page))
        outcomes.append(Outcome(label, int((scores >= scores[right]).sum())))
    return outcomes


def run(corpus: Path, limits: Settings) -> dict[str, Any]:
    raw, queries = read(corpus, limits)
    wanted = labels(corpus)
    found = []
    for variant in VARIANTS:
        outcomes = table(ranked(raw, queries, wanted, variant))
        print(f"{variant.name}\n{text(outcomes)}\n")
        found.append({**asdict(variant), "table": [asdict(row) for row in outcomes]})
    return {"pages": len(raw), "variants": found}
