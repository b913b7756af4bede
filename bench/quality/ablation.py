"""`python -m bench ablation`: what each part of the built-in ranking brings, for whoever changes a vector.

The corpus is read and embedded once, inside this process, and ranked by each variant: language taken out, lines
counted, both, neither; then as shipped, with the line that answers chosen by each of `line_rules`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.quality import recall
from bench.quality.line_rules import RULES, Candidates
from bench.quality.recall import LabelledQuery, QueryRank
from bench.results import record
from serving.documents.files import open_file
from serving.documents.page import Page
from serving.documents.parser_pool import ParserPool
from serving.embedders.base import Vectors
from serving.embedders.builtin import embedder as builtin
from serving.embedders.builtin.language_centering import CENTRE, SHRINK, LanguageCentering
from serving.settings import Settings

ABOUT = "what each part of the built-in ranking brings"
NAMED = "named"


@dataclass(frozen=True)
class Variant:
    """A ranking: `centre` and `shrink` of `LanguageCentering`, the lines' share of a score, a rule of `RULES`."""

    name: str
    centre: float
    shrink: float
    line_weight: float
    line_rule: str = "title"
    counts_pairs: bool = True
    """Whether two lines that follow each other count too, or the nearest line alone."""


@dataclass(frozen=True, eq=False)
class RawPage:
    """A page as e5 embeds it: float32[384], and float32[n, 384] for its lines, whose words are `texts`."""

    key: tuple[str, int]
    page: Vectors
    lines: Vectors
    texts: Sequence[str]


def embed_corpus(corpus: Path, settings: Settings) -> tuple[list[RawPage], list[LabelledQuery], dict[str, Vectors]]:
    """Return the pages with readable text, the queries (see `name_subjects`), and the vector of each."""
    embedder = builtin.BuiltinEmbedder(settings)
    embedder.load()
    e5 = embedder.e5
    pages = []
    with ParserPool(settings) as parsers:
        for path in recall.list_page_files(corpus):
            for number, page in enumerate(open_file(path, settings, parsers.run), 1):
                assert isinstance(page, Page)
                lines = embedder.read_page(page)
                words = builtin.join_page_text(lines)
                if builtin.count_letters(words) >= builtin.MIN_LETTERS:
                    least = builtin.MIN_LINE_LETTERS
                    telling = [line.text for line in lines if builtin.count_letters(line.text) >= least]
                    pages.append(
                        RawPage((path.name, number), e5.embed_passages([words])[0], e5.embed_passages(telling), telling)
                    )
    labels = recall.load_labels(corpus)
    labels += name_subjects(labels, pages)
    return pages, labels, {label.query: e5.embed_queries([label.query])[0] for label in labels}


def name_subjects(labels: Sequence[LabelledQuery], raw: Sequence[RawPage]) -> list[LabelledQuery]:
    """Return the questions as people ask who name the page's subject: with the page's first line, as kind "named".

    The sample queries avoid the page's words, so they cannot show a rule that marks the title for its words alone.
    """
    titles = {page.key: page.texts[0] for page in raw}
    return [
        replace(label, query=f"{label.query} {titles[label.file, label.page]}", kind=NAMED)
        for label in labels
        if label.kind != "keyword" and label.lines
    ]


def rank_queries(
    raw: Sequence[RawPage], queries: dict[str, Vectors], labels: Sequence[LabelledQuery], variant: Variant
) -> list[QueryRank]:
    """Return the right page's rank and marked line for each query by one variant; a tie counts against the page."""
    shipped = LanguageCentering.load()
    neutral = LanguageCentering(shipped.mean, shipped.directions, variant.centre, variant.shrink)
    matrix = np.stack([neutral(page.page) for page in raw])
    lines = [neutral(page.lines) for page in raw]
    keys = [page.key for page in raw]
    ranks = []
    for label in labels:
        query = neutral(queries[label.query])
        told = [score_variant_lines(vectors, vectors @ query, variant) for vectors in lines]
        scores = (1 - variant.line_weight) * (matrix @ query) + variant.line_weight * np.array(told)
        right = keys.index((label.file, label.page))
        texts = raw[right].texts
        found = Candidates(label.query, query, matrix[right], texts, lines[right])
        marked = texts[int(RULES[variant.line_rule](found).argmax())]
        ranks.append(QueryRank(label, int((scores >= scores[right]).sum()), marked))
    return ranks


def score_variant_lines(lines: Vectors, cosines: Vectors, variant: Variant) -> float:
    from serving.library.search import score_lines  # and usearch with it, which other commands do not need

    return float(score_lines(lines, cosines, np.array([0]))[0] if variant.counts_pairs else cosines.max())


def compare_variants(corpus: Path, settings: Settings) -> dict[str, Any]:
    """Print the figures of each variant, and return the result file's content."""
    from serving.library.search import LINE_WEIGHT  # and usearch with it, which other commands do not need

    shipped = Variant("both (as shipped)", CENTRE, SHRINK, LINE_WEIGHT)
    variants = (
        Variant("e5 alone, one vector a page", 0.0, 0.0, 0.0),
        Variant("less language", CENTRE, SHRINK, 0.0),
        Variant("lines counted", 0.0, 0.0, LINE_WEIGHT),
        shipped,
        Variant("both, half of the language", CENTRE, 0.5, LINE_WEIGHT),
        Variant("both, most of mean and language", 0.8, 0.7, LINE_WEIGHT),
        Variant("both, less weight on lines", CENTRE, SHRINK, 0.4),
        Variant("both, more weight on lines", CENTRE, SHRINK, 0.6),
        *(
            Variant(f"both, the nearest line alone, {share:.0%}", CENTRE, SHRINK, share, counts_pairs=False)
            for share in (0.4, 0.5)
        ),
        *(
            replace(shipped, name=f"both, line by {rule}", line_rule=rule)
            for rule in RULES
            if rule != shipped.line_rule
        ),
    )
    raw, labels, queries = embed_corpus(corpus, settings)
    rows = []
    for variant in variants:
        ranks = rank_queries(raw, queries, labels, variant)
        table = recall.summarise_kinds([one for one in ranks if one.label.kind != NAMED])
        table += recall.summarise_kinds([one for one in ranks if one.label.kind == NAMED])[:1]
        print(f"{variant.name}\n{recall.render_table(table)}\n")
        rows.append({**asdict(variant), "table": [asdict(row) for row in table]})
    return {"pages": len(raw), "variants": rows}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    recall.add_corpus(parser)
    record.add_out(parser, "ablation-builtin.json")


def main(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        return record.measure_and_save(options.out, "ablation", lambda _: compare_variants(options.corpus, settings))
