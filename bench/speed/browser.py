"""A real browser for the page's bench and for tests: an installed one, else Playwright's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
ADVICE = (
    "there is no browser: install Chromium or Chrome (Debian, Ubuntu: apt install chromium; macOS: brew install"
    " --cask chromium), or run .venv-test/bin/playwright install chromium"
)
PACKAGES = "the bench of the page needs {}: run `make bench`, or pip install 'dormouse-search[test]'"
# As root Chromium needs --no-sandbox; the others stop connections that it would open by itself.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


class BrowserFailed(Exception):
    """A failure in a sentence: there is no browser, or it did not do or show what was expected."""


def find_browser() -> str | None:
    """Return the path of a browser; None if there is none. Needs Playwright only if none is installed."""
    if named := os.environ.get("CHROMIUM"):
        return named
    installed = [path for name in NAMES if (path := shutil.which(name))] + [app for app in APPS if Path(app).exists()]
    if installed:
        return installed[0]
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """Start a browser for the block. Raises BrowserFailed, also for what goes wrong in the browser meanwhile.

    An event loop runs in this thread as long as the block does: asyncio.run and Modal's client do not work beside it.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise BrowserFailed(PACKAGES.format("Playwright")) from None
    path = find_browser()
    if path is None:
        raise BrowserFailed(ADVICE)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS), handle_sigint=False)
            try:
                yield browser
            finally:
                with suppress(Error):  # Ctrl-C in a terminal reaches it as well
                    browser.close()
    except Error as error:
        raise BrowserFailed(f"the browser: {error.message.partition(chr(10))[0]}") from error
