"""Which collection a page view shows, as jobs that write into it ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gradio.context import LocalContext

from serving.library.library import Library
from serving.library.records import Collection
from ui.access import page_views
from ui.access.page_views import PageViews


@pytest.fixture
def collections(tmp_path: Path) -> Iterator[tuple[Collection, Collection, Collection]]:
    """Two that exist, and one that does not exist yet."""
    library = Library(tmp_path)
    first, second = library.create_collection("a", ""), library.create_collection("b", "")
    yield first, second, library.catalogue.find_collection("c")
    library.close()


def show(views: PageViews, view: str, collection: Collection) -> None:
    """In an event of that view."""
    request: Any = SimpleNamespace(session_hash=view)
    token = LocalContext.request.set(request)
    try:
        assert views.current_view() == view
        views.show(collection)
    finally:
        LocalContext.request.reset(token)


def test_each_view_has_its_own(collections: tuple[Collection, Collection, Collection]) -> None:
    first, second, new = collections
    views = PageViews()
    assert views.current_view() == "" and not views.has_left(first, "x"), "of a view that is not known nothing is"
    show(views, "x", first)
    show(views, "y", new)
    assert views.is_showing(first, "x") and not views.has_left(first, "x")
    assert views.is_showing(new, "y") and views.has_left(first, "y") and not views.is_showing(first, "z")
    show(views, "x", second)
    assert views.has_left(first, "x") and views.is_showing(second, "x") and views.is_showing(new, "y")


def test_a_view_is_where_it_says_unless_it_is_known_to_be_elsewhere(
    collections: tuple[Collection, Collection, Collection],
) -> None:
    first, second, _ = collections
    views = PageViews()
    assert views.is_at(first.key), "as after a restart of the page"
    views.show(first)
    assert views.is_at(first.key) and not views.is_at(second.key)
    views.leave()
    assert not views.is_at(first.key) and views.has_left(first, "")


def test_another_name_is_the_same_collection(collections: tuple[Collection, Collection, Collection]) -> None:
    views = PageViews()
    show(views, "x", collections[0])
    assert views.is_showing(replace(collections[0], name="renamed"), "x")


def test_the_oldest_views_are_forgotten(
    collections: tuple[Collection, Collection, Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_views, "VIEWS_KEPT", 2)
    views = PageViews()
    for view in ("x", "y", "x", "z"):
        show(views, view, collections[0])
    assert [views.is_showing(collections[0], view) for view in "xyz"] == [True, False, True]
