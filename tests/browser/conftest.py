from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from bench.speed.browser import launch_browser
from tests.browser.visit import LOOKS, Visit


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with launch_browser() as browser:
        yield browser


@pytest.fixture(
    params=[pytest.param(look, marks=[pytest.mark.soak, pytest.mark.long] * (look != "desktop")) for look in LOOKS]
)
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def visit(browser: Browser, look: str, page_url: str) -> Iterator[Visit]:
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    context.set_default_timeout(60_000)
    visit = Visit(context, page_url)
    yield visit
    context.close()
    # Gradio's own words when a reload cuts one of its streams.
    faults = [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)]
    assert faults == [] and visit.outside == []
