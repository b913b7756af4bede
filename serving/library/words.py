"""Turns a text into the words by which it is found: small, without accents, and with their parts.

A word is there whole, with a mark before it, and in pieces of four letters, which its other forms have too: "heated"
finds a page that says "heating". Chinese, Japanese and Korean have no spaces between words: each of their signs is
there, and any two that stand together. What has a digit in it is there also without what parts it, "AL-2024/17" as
"al202417". docs/quality.md has what the pieces bring.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from serving.documents.page import Line

PIECE = 4
"""Letters: with 3, more pages are alike by chance; with 5, other forms of a word are missed."""
WHOLE = "_"
"""Stands before a whole word."""
MOST_CHARS = 100_000
"""Of a page that are looked at: a page of a newspaper has 20,000."""
MOST_LETTERS = 40
"""Of a word that are looked at."""
MOST_WORDS = 24
"""Of a question that pages are ranked by, the rarest: others are on most pages, and take most of the time."""
MOST_FOUND = 100_000
"""Pages that have them, each counted for each of its words: a search goes through as many in 50 ms."""
LINE_SHARE = 0.2
"""The part of a question that a line has to say to be marked: below it most marks are wrong, see docs/quality.md."""
SHORTEST = 3
"""Letters and digits of an identifier: fewer are on pages by chance."""
SOUND_MARKS = "\u3099\u309a"
"""Of Japanese: they make another letter."""
SIGNS = re.compile(
    "([\u2e80-\u2fdf\u3005-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]+)"
)
"""Those of Chinese, Japanese and Korean; split by it, a word has them in every second place."""


class LetterFolding(dict[int, str]):
    """Maps the code of a character to its small form without accents; to a space where no word has it.

    Character by character: to compose a text with many accents on one letter takes the square of their number.
    """

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code).casefold())
        kept = "".join(part for part in parts if not unicodedata.combining(part) or part in SOUND_MARKS)
        self[code] = "".join(char if is_of_word(char) else " " for char in unicodedata.normalize("NFKC", kept))
        return self[code]


def is_of_word(char: str) -> bool:
    """Return whether it is a letter, a digit or a mark on one; a sign of brackets or a fraction is not."""
    return char.isalnum() or unicodedata.category(char).startswith("M")


FOLDING = LetterFolding()


def split_words(text: str) -> list[str]:
    """Return the words and pieces of a text, in its order, each as often as it is there."""
    found: list[str] = []
    for written in text[:MOST_CHARS].split():
        words = written.translate(FOLDING).split()
        for word in words:
            for number, run in enumerate(SIGNS.split(word)):
                found += split_signs(run) if number % 2 else split_letters(run)
        if len(words) > 1 and any(map(str.isdigit, written)):
            found.append(WHOLE + "".join(words)[:MOST_LETTERS])
    return found


def find_identifier(question: str) -> str:
    """Return the word of a question that is nothing but a number or a name with digits, as "AL-2024/17"; else ""."""
    if len(question.split()) != 1 or not any(map(str.isdigit, question)):
        return ""
    joined = "".join(question.translate(FOLDING).split())[:MOST_LETTERS]
    return "" if len(joined) < SHORTEST or SIGNS.search(joined) else WHOLE + joined


def split_signs(run: str) -> list[str]:
    return [*run, *(one + other for one, other in pairwise(run))]


def split_letters(word: str) -> list[str]:
    word = word[:MOST_LETTERS]
    pieces = [word[start : start + PIECE] for start in range(len(word) - PIECE + 1)]
    return [WHOLE + word, *pieces] if word else []


@dataclass(frozen=True)
class WeighedWords:
    """The words of a question that some page has, each with its weight: the rarer, the more it tells."""

    weights: Mapping[str, float] = field(default_factory=dict)
    whole: float = 0.0
    """The weight of all that was asked, also of words that no page has."""


def weigh_words(words: Iterable[str], counts: Mapping[str, int], pages: int) -> WeighedWords:
    """Weigh a question's words by on how many of the `pages` each is; only the rarest get a weight of their own."""
    asked, weights, found = set(words), dict[str, float](), 0
    unknown = sum(not counts.get(word) for word in asked)
    for word in sorted((word for word in asked if counts.get(word)), key=lambda word: (counts[word], word)):
        found += counts[word]
        if weights and (len(weights) == MOST_WORDS or found > MOST_FOUND):
            break
        weights[word] = weigh_word(counts[word], pages)
    return WeighedWords(weights, sum(weights.values()) + unknown * weigh_word(0, pages))


def weigh_word(count: int, pages: int) -> float:
    return math.log1p((max(pages, count) - count + 0.5) / (count + 0.5))


def choose_line_with_words(lines: Iterable[Line], words: WeighedWords) -> Line | None:
    """Return the first of the lines that say most of what was asked; None where none says a fair part of it."""
    best, most = None, LINE_SHARE * words.whole
    for line in lines:
        weight = sum(words.weights.get(word, 0.0) for word in set(split_words(line.text)))
        if weight > most:
            best, most = line, weight
    return best
