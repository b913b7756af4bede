"""Calls of the page's API with the official gradio_client, whose answers have all their fields."""

from __future__ import annotations

from pathlib import Path

from gradio_client import Client, handle_file


def add_pages(client: Client, collection: str, *paths: Path) -> dict[str, list[dict[str, object]]]:
    found = client.predict([handle_file(path) for path in paths], collection, api_name="/add_pages")
    assert set(found) == {"added", "skipped", "timings"} and found["timings"]["total"] >= 0
    return dict(found)


def search_pages(
    client: Client, query: str, collection: str, top_k: object = 5, **more: object
) -> list[dict[str, object]]:
    found = client.predict(query, more.get("image"), collection, top_k, more.get("dimension"), api_name="/search")
    assert set(found) == {"hits", "hidden", "ranked", "timings"} and set(found["timings"]) == {
        "embed",
        "search",
        "total",
    }
    return list(found["hits"])
