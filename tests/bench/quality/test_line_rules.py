"""Rules for the line that answers: each prefers what it says, by vectors made for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.quality.line_rules import RULES, Candidates, cut_grams
from serving.embedders.base import Vectors

TOPIC, ANSWER, ELSE = np.eye(3, dtype=np.float32)


def candidates(*lines: Vectors, texts: tuple[str, ...] = (), question: str = "", query: Vectors = TOPIC) -> Candidates:
    return Candidates(question, query, TOPIC, texts or ("line",) * len(lines), np.stack(lines))


def choose(rule: str, found: Candidates) -> int:
    scores = RULES[rule](found)
    assert scores.shape == (len(found.lines),) and np.isfinite(scores).all()
    return int(scores.argmax())


@pytest.mark.parametrize("rule", RULES)
def test_a_line_that_is_the_query_wins_by_any_rule(rule: str) -> None:
    words = ("total due 12", "nine lamps 40", "thank you for it")
    found = candidates(ANSWER, ELSE, TOPIC, texts=words, question="total due", query=ANSWER)
    assert choose(rule, found) == 0
    alone = candidates(ANSWER, texts=("12",), query=ANSWER)
    assert choose(rule, alone) == 0, "also a page of one line"


@pytest.mark.parametrize("rule", ["page", "centred"])
def test_what_all_lines_share_does_not_decide(rule: str) -> None:
    lines = [TOPIC + 0.6 * ELSE, 0.9 * TOPIC + 0.1 * ANSWER, 0.9 * TOPIC - 0.1 * ANSWER]
    found = candidates(*lines, query=0.6 * TOPIC + 0.5 * ANSWER)
    assert choose("nearest", found) == 0 and choose(rule, found) == 1


def test_what_the_title_says_does_not_decide() -> None:
    found = candidates(TOPIC, 0.8 * TOPIC + 0.6 * ANSWER, 0.8 * TOPIC + 0.6 * ELSE, query=0.95 * TOPIC + 0.3 * ANSWER)
    assert choose("nearest", found) == 0 and choose("title", found) == 1


def test_neighbours_decide_between_equals() -> None:
    found = candidates(ELSE, ANSWER, ELSE, ANSWER, 0.5 * ANSWER, query=ANSWER)
    assert choose("nearest", found) == 1 and choose("neighbours", found) == 3


def test_texts_decide_between_equals() -> None:
    same = candidates(TOPIC, TOPIC, TOPIC, texts=("Lamps", "Lamps of the hall", "Lamps 12"), question="the hall")
    assert {rule: choose(rule, same) for rule in ("length", "digits", "words")} == {
        "length": 1,
        "digits": 2,
        "words": 1,
    }
    common = replace(same, question="lamps", texts=("lamps and", "lamps", "lamps"))
    assert choose("words", common) == 0, "a word of every line tells nothing"


def test_words_are_cut_by_their_letters_and_digits() -> None:
    assert cut_grams("E4: Lämp-en") == {"e4", "läm", "ämp", "mpe", "pen"} and cut_grams(" · ") == set()
