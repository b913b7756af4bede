"""The constants that bring languages together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from serving.embedders.builtin.e5.encoder import E5
from serving.embedders.builtin.language_centering import LanguageCentering


def test_language_constants_are_those_of_the_sentences(tmp_path: Path) -> None:
    made, shipped = LanguageCentering.fit(E5(tmp_path)), LanguageCentering.load()
    np.testing.assert_allclose(made.mean, shipped.mean, atol=1e-4)
    # Directions may change sign and turn within nearly equal ones: what they span is compared.
    np.testing.assert_allclose(
        made.directions.T @ made.directions, shipped.directions.T @ shipped.directions, atol=1e-2
    )
