"""Variants of the built-in ranking: what each changes in the order of pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.quality.ablation import RawPage, Variant, name_subjects, rank_queries
from bench.quality.line_rules import RULES
from bench.quality.recall import LabelledQuery
from serving.embedders.base import Vectors
from tests.support.scripted import unit

PAGES, LINES, BOTH = Variant("", 0.0, 0.0, 0.0), Variant("", 0.0, 0.0, 1.0), Variant("", 0.0, 0.0, 0.5)
A, B, C = (unit(name, 384) for name in "abc")
RIGHT = LabelledQuery("q", "k", "right.png", 1)


def page(name: str, vector: Vectors, *lines: Vectors) -> RawPage:
    vectors = np.stack(lines or (vector,))
    return RawPage((f"{name}.png", 1), vector, vectors, [f"{name} {number}" for number in range(len(vectors))])


def ranks(raw: list[RawPage], variant: Variant, query: Vectors = A) -> list[int]:
    return [one.rank for one in rank_queries(raw, {"q": query}, [RIGHT], variant)]


def test_the_nearest_page_is_first() -> None:
    assert ranks([page("right", A), page("other", B), page("third", C)], PAGES) == [1]
    assert ranks([page("right", B), page("other", A), page("third", A + 0.1 * B)], PAGES) == [3]


def test_a_tie_counts_against_the_right_page() -> None:
    assert ranks([page("right", A), page("other", A)], PAGES) == [2]


@pytest.mark.parametrize(("variant", "rank"), [(PAGES, 2), (LINES, 1), (BOTH, 1)])
def test_the_best_line_counts_by_its_weight(variant: Variant, rank: int) -> None:
    raw = [page("right", A + 0.9 * B, A, C), page("other", A + 0.8 * B, A + 0.8 * B)]
    assert ranks(raw, variant) == [rank]


def test_the_line_of_the_right_page_is_marked_by_the_rule_and_ranks_nothing() -> None:
    topic, answer = np.eye(384, dtype=np.float32)[:2]
    raw = [page("right", topic, topic, 0.8 * topic + 0.6 * answer), page("else", C)]
    found = {
        rule: rank_queries(raw, {"q": 0.95 * topic + 0.31 * answer}, [RIGHT], replace(BOTH, line_rule=rule))[0]
        for rule in RULES
    }
    assert (found["nearest"].marked, found["page"].marked) == ("right 0", "right 1")
    assert {one.rank for one in found.values()} == {1}


def test_questions_are_asked_again_with_the_subject_of_their_page() -> None:
    asked = LabelledQuery("how much?", "paraphrase", "right.png", 1, ("due",))
    labels = [asked, replace(asked, kind="keyword"), replace(asked, lines=())]
    assert name_subjects(labels, [page("right", A)]) == [replace(asked, query="how much? right 0", kind="named")]


def test_centering_brings_pages_of_the_common_mean_down() -> None:
    """Each page has a part that all have; with all of it removed, only what differs decides."""
    from serving.embedders.builtin.language_centering import LanguageCentering

    mean = LanguageCentering.load().mean
    common = mean / np.linalg.norm(mean)
    raw = [page("right", 3 * common + A), page("other", 9 * common + 0.1 * B)]
    query = 5 * common + 0.5 * A
    assert ranks(
        [RawPage(one.key, unit_length(one.page), unit_length(one.lines), one.texts) for one in raw], PAGES, query
    ) == [2]
    moved = Variant("", float(np.linalg.norm(5 * common) / np.linalg.norm(mean)), 0.0, 0.0)
    assert ranks(raw, moved, query) == [1]


def unit_length(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
