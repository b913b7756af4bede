"""Files that nobody has touched for so long that the page removes them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ui.access.uploads import KEPT_S


def aged(path: Path, data: bytes = b"x") -> Path:
    """A file that nobody has touched for more than an hour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    then = time.time() - KEPT_S - 1
    os.utime(path, (then, then))
    os.utime(path.parent, (then, then))
    return path
