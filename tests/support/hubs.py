"""A model hub that holds one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MODEL, COMMIT = "someone/tiny", "c" * 40


@dataclass
class Hub:
    """What a download asks for: the list of files, then each of them."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refuses: bool = False
