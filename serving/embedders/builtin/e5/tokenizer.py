"""Splits a text into the pieces of words that e5 was trained on.

SentencePiece's unigram model: of all ways to put a word together, the one whose pieces are the most probable. Its own
library keeps 55 MB in every worker's snapshot and `tokenizers` 280 MB, which each restore has to read; a trie that is
mapped from a file keeps 1 MB.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import marisa_trie
import numpy as np

from serving.embedders.builtin.e5.weights import WeightsFile
from serving.system.files import write_file

SPACE = "▁"
"""Stands before each word; no piece has it elsewhere."""
SPECIAL = 4
MASK = -1
"""Pieces before and from here are none of text: begin, padding, end, unknown; a gap to fill in."""
LONGEST = 16
"""Characters of the longest piece."""
WORDS_KEPT = 4_096
"""Words whose pieces are remembered."""
RARE = 10.0
"""An unknown character is less probable than the rarest piece by this, as in SentencePiece."""


class Tokenizer:
    """The pieces of texts. `pieces` is a trie of them, `numbers` their numbers by those of the trie. Thread-safe."""

    def __init__(self, weights: WeightsFile, pieces: Path, numbers: Path) -> None:
        self._trie = marisa_trie.Trie()
        self._trie.mmap(str(pieces))
        found = np.fromfile(numbers, np.int32)
        # Arrays of plain numbers: one by one they are read in half the time of NumPy's.
        self._numbers = array("i", found.tobytes())
        self._scores = array("f", weights.scores[found].tobytes())
        self._unknown = weights.unknown
        self._unknown_score = float(weights.scores.min()) - RARE
        self._letters = weights.letters
        self.split_word: Callable[[str], Sequence[int]] = lru_cache(WORDS_KEPT)(self._split_word)

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text's pieces."""
        return [number for word in text.translate(self._letters).split() for number in self.split_word(word)]

    def _split_word(self, word: str) -> Sequence[int]:
        text = SPACE + word
        best = [0.0, *[-math.inf] * len(text)]  # the score of the best pieces up to each character
        last = [(0, self._unknown)] * (len(text) + 1)  # where the last of these begins, and its number
        for start in range(len(text)):
            score = best[start]
            ends = [(start + 1, score + self._unknown_score, self._unknown)]
            for piece, place in self._trie.iter_prefixes_with_ids(text[start : start + LONGEST]):
                ends.append((start + len(piece), score + self._scores[place], self._numbers[place]))
            for end, total, number in ends:
                if total > best[end]:
                    best[end], last[end] = total, (start, number)
        numbers, end = [], len(text)
        while end:
            end, number = last[end]
            numbers.append(number)
        return tuple(reversed(numbers))


def write_pieces(weights: WeightsFile, pieces: Path, numbers: Path) -> None:
    """Write the two files of a tokenizer."""
    known = weights.pieces[SPECIAL:MASK]
    trie = marisa_trie.Trie(known)
    found = np.empty(len(trie), np.int32)
    for number, piece in enumerate(known, SPECIAL):
        found[trie[piece]] = number
    write_file(pieces, trie.tobytes())
    write_file(numbers, found.tobytes())
