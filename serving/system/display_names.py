"""Names of files, and other texts, as their owners wrote them: only ever shown, never a path and never a formula."""

from __future__ import annotations

NAME_CHARS = 255
KEPT_END_CHARS = 20
"""Of a name that is too long its end stays too: it says what kind of file it is."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that a spreadsheet would compute: with what is typed, and with its full-width forms."""


def display_name(name: object) -> str:
    """The last part, printable."""
    return split_path(name)[-1]


def display_path(name: object) -> str:
    """With the folders that it lies in, printable."""
    return shorten("/".join(split_path(name)))


def split_path(name: object) -> list[str]:
    """At least one; none of them leads anywhere else."""
    every = [make_printable(part) for part in str(name).replace("\\", "/").split("/")]
    return [part for part in every if part not in ("", ".", "..")] or ["unnamed"]


def make_printable(text: str) -> str:
    return shorten(" ".join("".join(char if char.isprintable() else " " for char in text).split()))


def shorten(text: str) -> str:
    return text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS - KEPT_END_CHARS - 1]}…{text[-KEPT_END_CHARS:]}"


def escape_cell(value: object) -> object:
    """Of a CSV: a text that a spreadsheet takes for a text; what is none stays as it is."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA_STARTS) else value
