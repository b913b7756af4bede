"""Finds a browser for the tests, or gets one: `python -m tests.chromium`.

An installed Chrome or Chromium, else one that Playwright has downloaded before, else Debian's package (as root), else
Playwright's download. If none can be had, the browser tests fail and say what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
ADVICE = (
    "no browser for the tests: install Chromium or Chrome (Debian, Ubuntu: apt install chromium; macOS: brew install"
    " --cask chromium), or run .venv-test/bin/playwright install chromium"
)
# As root Chromium needs --no-sandbox; the others stop connections that it would open by itself.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def installed() -> str | None:
    """Path of a browser that is here."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return found or next((app for app in APPS if Path(app).exists()), None) or downloaded()


def downloaded() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> None:
    if shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], quiet)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-noto-core"], quiet)
    if installed() is None:
        run([sys.executable, "-m", "playwright", "install", "chromium"], dict(os.environ))


def run(command: list[str], environment: dict[str, str]) -> None:
    """A failure is told by the browser tests; this only tries."""
    print("+", " ".join(command), flush=True)
    try:
        subprocess.run(command, env=environment, timeout=900, check=False, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, flush=True)


if __name__ == "__main__":
    if installed() is None:
        install()
    print(f"browser for the tests: {installed() or ADVICE}")
