"""The folder for files that last no longer than the engine: sockets, and the work files of a restore."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

MAX_PATH_BYTES = 75
"""The path of a Unix socket may have 107 bytes in Linux and 103 in macOS, file name included."""


def locate_runtime_dir(data: Path) -> Path:
    """Return where the engine of a data folder keeps its runtime files.

    That is in the data folder; if its path is too long for a socket, in the system's temporary folder, under a name
    that the next engine of the same data folder finds again.
    """
    data = data.resolve()
    folder = data / "run"
    if len(os.fsencode(folder)) <= MAX_PATH_BYTES:
        return folder
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"dormouse-{os.getuid()}-{digest}"


def claim_runtime_dir(data: Path) -> Path:
    """Return the folder, with what is in it: only this user can read it. Raises OSError."""
    folder = locate_runtime_dir(data)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(1, f"{folder} belongs to somebody else")
    folder.chmod(0o700)
    return folder


def make_runtime_dir(data: Path) -> Path:
    """Return an empty folder that only this user can read; leftovers of a killed engine are removed. Raises OSError."""
    folder = claim_runtime_dir(data)
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    return folder
