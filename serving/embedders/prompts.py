"""Brings a caller's words into the form that models see. No model and no HTTP in here.

A worker owns the prompt, not its caller: the same question must give the same vector through every route, on every
server (a plain text sent to BiGemma3 without its template lands at cosine 0.2 from the right place).
"""

from __future__ import annotations

import unicodedata

from serving.errors import BadValueError, TooLargeError

QUERY_PREFIX = "Query: "
"""BiGemma3's query turn is `Query: {text}`; callers who write it themselves must not get it twice."""
PAGE_PROMPT = "Describe this image"
"""The text that stands beside the image in BiGemma3's page turn."""


MAX_COMPOSED = 4
"""The most characters that NFC makes one of."""


def canonicalise_query(text: str, param: str | None, max_chars: int) -> str:
    """Return one query as all embedders see it: NFC, no control characters, single spaces, no leading `Query: `.

    Raises BadValueError if nothing is left, TooLargeError for more than `max_chars` characters.
    """
    text = " ".join(text.split())
    # Before anything that takes longer: to bring n combining marks into order takes n x n steps.
    if len(text) > MAX_COMPOSED * max_chars:
        raise query_too_long(param, max_chars)
    # Lone surrogates cannot be encoded as UTF-8 and would end the model's process, not the request.
    text = text.encode("utf-8", "replace").decode("utf-8")
    kept = (
        " " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in unicodedata.normalize("NFC", text)
    )
    words = " ".join("".join(kept).split())
    if words.startswith(QUERY_PREFIX):
        words = words[len(QUERY_PREFIX) :].lstrip()
    if not words or words == QUERY_PREFIX.strip():
        raise BadValueError("the query is empty: send at least one word", param=param)
    if len(words) > max_chars:
        raise query_too_long(param, max_chars)
    return words


def query_too_long(param: str | None, max_chars: int) -> TooLargeError:
    return TooLargeError(f"the query is longer than {max_chars} characters", param=param)
