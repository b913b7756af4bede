"""Names of files as their owners wrote them: only ever shown, never used as a path."""

from __future__ import annotations

NAME_CHARS = 255
END_CHARS = 20
"""Of a name that is too long its end stays too: it says what kind of file it is."""


def shown_name(name: object) -> str:
    """The last part, printable."""
    return parts(name)[-1]


def shown_path(name: object) -> str:
    """With the folders that it lies in, printable."""
    return shortened("/".join(parts(name)))


def parts(name: object) -> list[str]:
    """At least one; none of them leads anywhere else."""
    every = [printable(part) for part in str(name).replace("\\", "/").split("/")]
    return [part for part in every if part not in ("", ".", "..")] or ["unnamed"]


def printable(text: str) -> str:
    return shortened(" ".join("".join(char if char.isprintable() else " " for char in text).split()))


def shortened(text: str) -> str:
    return text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS - END_CHARS - 1]}…{text[-END_CHARS:]}"
