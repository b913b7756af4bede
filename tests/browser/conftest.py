from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bench.speed.browser import launch_browser
from tests.browser.visit import LOOKS, Visit

SELDOM = {
    "test_appearance", "test_cost", "test_keeping", "test_many", "test_opening", "test_samples", "test_switching",
    "test_tabs", "test_targets", "test_timeline", "test_where", "test_whole_list",
}  # fmt: skip


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with launch_browser() as browser:
        yield browser


@pytest.fixture(params=[pytest.param(look, marks=[pytest.mark.soak] * (look != "desktop")) for look in LOOKS])
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make test-long` what CI has no time for: other looks of a journey, and journeys that seldom change."""
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    looks = {item: set(list_values(item)) & {*LOOKS} for item in here}
    on_desktop = {name_test(item) for item in here if "desktop" in looks[item]}
    for item in here:
        if item.path.stem in SELDOM or (looks[item] - {"desktop"} and name_test(item) in on_desktop):
            item.add_marker(pytest.mark.long)


def list_values(item: pytest.Item) -> list[str]:
    """Return the texts among what a test is parametrised with."""
    given = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    return [value for value in given if isinstance(value, str)]


def name_test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


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
