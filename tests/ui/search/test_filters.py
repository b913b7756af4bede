from __future__ import annotations

import gradio as gr
import pytest

from serving.client import EmbeddingClient
from serving.library.records import ALL_PAGES, Selection
from tests.support.libraries import at
from ui.core.service import Question, Service
from ui.search import filters
from ui.search.filters import ALL, Filters
from ui.search.question import LastSearch, parse_time
from ui.servers.target import Target


@pytest.mark.usefixtures("blocks")
def test_files_and_types_are_offered_with_their_pages(service: Service) -> None:
    found = Filters(service)
    updates = found.offer_files([("a.pdf", 12), ("b.png", 1), ("c.jpg", 2), ("d", 3)])
    assert updates[found.files]["choices"][0] == ("a.pdf (12 pages)", "a.pdf") and "value" not in updates[found.files]
    types = {kind: label for label, kind in updates[found.types]["choices"]}
    assert set(types) == {"pdf", "image", "png", "jpeg", "other"}
    assert types["image"].endswith("(3)") and types["pdf"].endswith("(12)")
    assert updates[found.folder]["choices"] == [] and found.added not in updates
    only = found.offer_files([("b.png", 1)], ALL_PAGES)
    assert [kind for _, kind in only[found.types]["choices"]] == ["png"], "one kind of image needs no sum"
    assert only[found.files]["value"] == only[found.types]["value"] == []


@pytest.mark.parametrize(
    ("chosen", "size"), [("768", 768), (ALL, None), (None, None), ("-1", None), ("٣", None), ("1234567", None)]
)
def test_only_a_number_is_a_dimension(chosen: object, size: int | None) -> None:
    assert filters.parse_dimension(chosen) == size


def test_smaller_dimensions_are_offered_where_the_model_has_them(service: Service) -> None:
    update = filters.offer_dimensions(service.targets.first)
    assert update["visible"] and update["choices"] == [("all 2,560", ALL), ("1,536", "1536"), ("768", "768")]
    silent = filters.offer_dimensions(Target(EmbeddingClient("http://127.0.0.1:9", unreachable_s=0.1)))
    assert silent["visible"] is False and silent["value"] == ALL


def test_ranks_leave_out_the_page_that_was_asked_with(service: Service, ids: list[str]) -> None:
    key = at(service.library)
    found = service.search(Question(like=ids[0]), key, 5)
    last = LastSearch(Question(like=ids[0]), tuple(found.hits), found.query.tobytes(), found.fingerprint, 768)
    ranks = filters.find_ranks(service, last, key)
    assert set(ranks) == set(ids[1:]) and sorted(ranks.values()) == [1, 2]


def test_the_order_of_the_widgets_is_that_of_the_events(blocks: gr.Blocks, service: Service) -> None:
    found = Filters(service)
    assert [widget.elem_id for widget in found.widgets] == [
        "only-files",
        "only-types",
        "only-folder",
        "only-added",
        "dimension",
    ]
    assert all(widget._id in blocks.blocks for widget in found.widgets)


@pytest.mark.usefixtures("blocks")
def test_folders_and_times_are_offered(service: Service) -> None:
    found = Filters(service)
    chosen = Selection(folder="manuals", added_after=parse_time("7"))
    updates = found.offer_files([("manuals/pump/a.pdf", 2), ("manuals/b.pdf", 1), ("c.pdf", 4)], chosen)
    assert updates[found.folder]["choices"] == [
        ("manuals (3 pages)", "manuals"), ("manuals/pump (2 pages)", "manuals/pump"),
    ]  # fmt: skip
    assert updates[found.folder]["value"] == ["manuals"] and updates[found.added]["value"] == "7"
    other = found.offer_files([], Selection(added_after=parse_time("2026-01-02")))[found.added]
    assert other["choices"][-1][0] == "since 2026-01-02" and parse_time(other["value"]) == parse_time("2026-01-02")
    assert found.offer_files([], ALL_PAGES)[found.added]["value"] == "any"
