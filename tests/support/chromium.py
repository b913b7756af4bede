"""Finds a browser for the tests, or gets one: `python -m tests.support.chromium`.

An installed Chrome or Chromium, else one that Playwright has downloaded before, else Debian's package (as root), else
Playwright's download. If none can be had, the browser tests fail and say what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from bench.speed.browser import ADVICE, find_browser


def install() -> None:
    if shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], quiet)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-noto-core"], quiet)
    if find_browser() is None:
        run([sys.executable, "-m", "playwright", "install", "chromium"], dict(os.environ))


def run(command: list[str], environment: dict[str, str]) -> None:
    """A failure is told by the browser tests; this only tries."""
    print("+", " ".join(command), flush=True)
    try:
        subprocess.run(command, env=environment, timeout=900, check=False, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, flush=True)


if __name__ == "__main__":
    if find_browser() is None:
        install()
    print(f"browser for the tests: {find_browser() or ADVICE}")
