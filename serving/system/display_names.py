"""Make names of files and other texts safe to show: never a path, never a formula."""

from __future__ import annotations

from unicodedata import normalize

NAME_CHARS = 255
KEPT_END_CHARS = 20
"""The end of a name that is too long is kept: it shows the kind of file."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of a cell that a spreadsheet would compute, and their full-width forms."""


def display_name(name: object) -> str:
    """Return the last part of a path, printable."""
    return split_path(name)[-1]


def display_path(name: object) -> str:
    """Return a path with its folders, printable."""
    return shorten_name("/".join(split_path(name)))


def split_path(name: object) -> list[str]:
    """Return the parts of a path, at least one; none of them leads to another folder."""
    composed = compose_name(str(name)).replace("\\", "/")
    printable = "".join(char if char.isprintable() else " " for char in composed)
    every = [shorten_name(" ".join(part.split())) for part in printable.split("/")]
    return [part for part in every if part not in ("", ".", "..")] or ["unnamed"]


def compose_name(name: str) -> str:
    """Return the name with composed letters (NFC): macOS writes "u" and its two dots as two, a person types one."""
    return normalize("NFC", name)


def shorten_name(text: str) -> str:
    return text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS - KEPT_END_CHARS - 1]}…{text[-KEPT_END_CHARS:]}"


def escape_cell(value: object) -> object:
    """Return a CSV cell that a spreadsheet does not compute; values that are no text stay as they are."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA_STARTS) else value
