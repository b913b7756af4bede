"""Removes the language from e5's vectors, so that a question finds pages in other languages.

multilingual-e5 puts texts of one language closer together than their meaning alone would: an English question prefers
English pages. `parallel_texts.json` has twelve sentences in nine languages; where the languages' means differ is the
direction of language, not of meaning. That part and most of the common mean are removed, from queries and pages alike.
docs/quality.md has the gain, also for removing less.

Made once with `python -m serving.embedders.builtin.language_centering`, because embedding the sentences takes two
seconds.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from serving.embedders.base import Vectors
from serving.embedders.builtin.e5.encoder import E5
from serving.embedders.builtin.parallel_texts import load_sentences

CONSTANTS = Path(__file__).with_name("language_centering.npz")
CENTRE = 0.9
SHRINK = 1.0
"""Shares of the mean and of the directions of language that are removed. What stays of the mean keeps every text away
from the vector of a page without any, which is its opposite."""


class LanguageCentering:
    """Centres vectors: `mean` is float32[dimension], `directions` float32[languages - 1, dimension], orthonormal."""

    def __init__(self, mean: Vectors, directions: Vectors, centre: float = CENTRE, shrink: float = SHRINK) -> None:
        self.mean = mean
        self.directions = directions
        self.centre = np.float32(centre)
        self.shrink = np.float32(shrink)

    @classmethod
    def load(cls) -> LanguageCentering:
        with np.load(CONSTANTS) as constants:
            return cls(constants["mean"], constants["directions"])

    @classmethod
    def fit(cls, e5: E5) -> LanguageCentering:
        """Fit to the parallel sentences, each embedded as a query and as a passage."""
        sentences = load_sentences()
        vectors = np.stack([[*e5.embed_queries(texts), *e5.embed_passages(texts)] for texts in sentences.values()])
        means = vectors.mean(axis=1)
        mean = means.mean(axis=0)
        directions = np.linalg.svd(means - mean, full_matrices=False)[2][: len(sentences) - 1]
        return cls(mean.astype(np.float32), directions.astype(np.float32))

    def __call__(self, vector: Any) -> Vectors:
        """Return float32[dimension] or float32[n, dimension], L2-normalised again."""
        moved = np.asarray(vector, dtype=np.float32) - self.centre * self.mean
        moved = moved - self.shrink * (moved @ self.directions.T) @ self.directions
        return np.asarray(moved / np.linalg.norm(moved, axis=-1, keepdims=True), dtype=np.float32)


def main() -> None:
    with TemporaryDirectory() as folder:
        made = LanguageCentering.fit(E5(Path(folder)))
    np.savez(CONSTANTS, mean=made.mean, directions=made.directions)


if __name__ == "__main__":
    main()
