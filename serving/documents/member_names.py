"""Decodes the names of a zip's files that were written without saying in which encoding.

A zip says "UTF-8" by a flag, or nothing; then it is what the writing system used: the code page of DOS for western
languages, Shift-JIS or GBK in Japan and China, cp1252 or UTF-8 from programs that did not care.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

DOS = "cp437"
"""What `zipfile` decodes such names as; every byte is a letter or a sign in it."""
JAPANESE = re.compile(
    rb"(?:\x82[\x9f-\xf1]|\x83[\x40-\x96]|\x81[\x5b\x58]|[\x88-\x97][\x40-\x7e\x80-\xfc]|\x98[\x40-\x72])"
)
"""Kana, and the kanji of JIS level 1, in Shift-JIS."""
CHINESE = re.compile(rb"[\xb0-\xd7][\xa1-\xfe]")
"""The 3,755 most frequent hanzi, level 1 of GB 2312, in GBK."""
EAST_ASIAN = (("cp932", JAPANESE), ("gbk", CHINESE))
WESTERN = (DOS, "cp850", "cp1252")
UNLIKELY = re.compile("[^A-Za-zÀ-ÖØ-öø-ÿŒœŠšŸŽž\x00-\x7f]|(?<=[a-zà-ÿ])[À-ÖØ-Þ]|(?<=[A-Z])[À-ÖØ-Þ](?=[a-z])")
"""In a western name: what is no letter, and a capital behind a small letter."""
SHARE = 0.8
"""How many of the letters that are not ASCII must be frequent ones of a language."""


def decode_names(names: Sequence[bytes]) -> list[str]:
    """Return the names in the encoding that fits all of them best."""
    encoding = find_encoding(b"\n".join(names))
    return [name.decode(encoding, "replace") for name in names]


def find_encoding(text: bytes) -> str:
    for encoding in ("ascii", "utf-8"):
        if can_decode(text, encoding):
            return encoding
    for encoding, frequent in EAST_ASIAN:
        if can_decode(text, encoding) and is_frequent(text.decode(encoding), encoding, frequent):
            return encoding
    decoded = {encoding: text.decode(encoding, "replace") for encoding in WESTERN}
    return min(WESTERN, key=lambda encoding: len(UNLIKELY.findall(decoded[encoding])))


def can_decode(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def is_frequent(text: str, encoding: str, frequent: re.Pattern[bytes]) -> bool:
    """Return whether the letters beyond ASCII are frequent ones of the language, and stand beside each other.

    A single one between Latin letters is a western letter with an accent.
    """
    letters = [char for char in text if ord(char) > 127]
    fitting = sum(bool(frequent.fullmatch(char.encode(encoding))) for char in letters)
    beside = len("".join(re.findall(r"[^\x00-\x7f]{2,}|(?<![A-Za-z])[^\x00-\x7f](?![A-Za-z])", text)))
    return min(fitting, beside) >= SHARE * len(letters)
