"""Rules that choose the line of a page that answers a query, to be compared by `python -m bench ablation`.

"title" is what the library does; docs/quality.md has what each brings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serving.documents.page import keep_letters
from serving.embedders.base import Vectors

GRAM = 3
"""Letters of a piece of a word: long enough to be rare, short enough to stand in another form of the word."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """A query and a page's lines: float32[n] and float32[lines, n], as the ranking compares them."""

    question: str
    query: Vectors
    page: Vectors
    texts: Sequence[str]
    lines: Vectors


def score_nearest(found: Candidates) -> Vectors:
    return np.asarray(found.lines @ found.query)


def score_beyond_title(found: Candidates) -> Vectors:
    """Return the library's own scores: cosines less what query and line have in common with the title."""
    from serving.library.search import score_answers  # and usearch with it, which other commands do not need

    return np.asarray(score_answers(score_nearest(found), found.lines))


def score_residual(found: Candidates) -> Vectors:
    """Return cosines less 0.4 of what query and line have in common with the page."""
    return score_nearest(found) - np.float32(0.4) * (found.query @ found.page) * (found.lines @ found.page)


def score_centred(found: Candidates) -> Vectors:
    """Return cosines of what a line has beyond the mean of its page's lines."""
    rest = found.lines - found.lines.mean(axis=0)
    lengths = np.linalg.norm(rest, axis=1)
    return np.asarray(rest @ found.query / np.where(lengths == 0, 1, lengths))


def score_neighbours(found: Candidates) -> Vectors:
    """Return cosines of which a tenth each is the line's before and the line's after."""
    alone = score_nearest(found)
    around = np.pad(alone, 1, mode="edge")
    return np.asarray(0.8 * alone + 0.1 * (around[:-2] + around[2:]))


def score_lengths(found: Candidates) -> Vectors:
    """Return cosines with a gain for long lines: a heading rarely answers."""
    gains = [0.02 * math.log(len(keep_letters(text)) + 1) for text in found.texts]
    return score_nearest(found) + np.array(gains, np.float32)


def score_digits(found: Candidates) -> Vectors:
    """Return cosines with a gain for lines that have a digit."""
    return score_nearest(found) + 0.05 * np.array([any(map(str.isdigit, text)) for text in found.texts], np.float32)


def score_words(found: Candidates) -> Vectors:
    """Return cosines with a gain for the query's pieces of words that stand in the line and in few others."""
    asked = cut_grams(found.question)
    held = [asked & cut_grams(text) for text in found.texts]
    weights = {gram: math.log((len(held) + 1) / (sum(gram in grams for grams in held) + 1)) for gram in asked}
    shares = [sum(weights[gram] for gram in grams) / (sum(weights.values()) or 1) for grams in held]
    return score_nearest(found) + 0.3 * np.array(shares, np.float32)


def cut_grams(text: str) -> set[str]:
    words = map(keep_letters, text.split())
    return {word[start : start + GRAM] for word in words for start in range(max(1, len(word) - GRAM + 1)) if word}


RULES: dict[str, Callable[[Candidates], Vectors]] = {
    "title": score_beyond_title,
    "nearest": score_nearest,
    "page": score_residual,
    "centred": score_centred,
    "neighbours": score_neighbours,
    "length": score_lengths,
    "digits": score_digits,
    "words": score_words,
}
"""By the name that a `Variant` of the ablation has."""
