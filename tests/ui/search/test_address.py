from __future__ import annotations

import orjson

from ui.search import address
from ui.search.address import SEARCHES_KEPT, Entry, SearchHistory
from ui.search.question import LastSearch


def test_the_latest_searches_are_kept() -> None:
    history = SearchHistory()
    for number in range(SEARCHES_KEPT + 1):
        history.keep(LastSearch(id=str(number)))
    assert history.find("0") is None and history.find("") is None
    found = history.find("1")
    assert found is not None and found.id == "1"


def test_each_entry_is_news_to_the_browser() -> None:
    entry = Entry("c", query="q" * (address.QUERY_CHARS + 1))
    one, two = entry.to_json(), entry.to_json()
    assert one != two and len(orjson.loads(one)["query"]) == address.QUERY_CHARS
