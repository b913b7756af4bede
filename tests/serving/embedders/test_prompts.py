from __future__ import annotations

import pytest

from serving.embedders.prompts import canonicalise_query
from serving.errors import BadValueError


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("  total   due ", "total due"),
        ("Query: total due", "total due"),
        ("Query:total", "Query:total"),
        ("a\0b\nc\u2028d", "a b c d"),
        ("cafe\u0301", "caf\u00e9"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("<start_of_image> <image_soft_token>", "<start_of_image> <image_soft_token>"),
        ("\u202egnissim", "\u202egnissim"),
    ],
)
def test_canonical(given: str, canonical: str) -> None:
    assert canonicalise_query(given, None, 2_000) == canonical


@pytest.mark.parametrize("given", ["", "  \n\t ", "\0\0", "Query: ", "Query:"])
def test_empty_is_refused(given: str) -> None:
    with pytest.raises(BadValueError, match="empty"):
        canonicalise_query(given, "texts.0", 2_000)
