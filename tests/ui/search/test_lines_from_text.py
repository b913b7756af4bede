"""Lines that answer, chosen by their words, on pages of a server that looks at pictures and reads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client import EmbeddingClient
from serving.errors import BadValueError
from serving.library.library import Library
from serving.library.records import Hit, Selection
from serving.settings import Settings
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import at
from tests.support.scripted import Coloured
from tests.support.servers import make_settings, running
from tests.support.uploads import run, upload
from tests.support.waiting import until
from ui.components import results
from ui.core.service import Question, Service
from ui.search import page_regions
from ui.search.document import open_page
from ui.search.question import LastSearch
from ui.servers.target import Target, Targets

MANUAL = [
    ["The pump needs a new valve", "Order number AL-2024/17"],
    ["Tulips flower in April", "In the garden, red"],
    ["Descaling once a month"],
]


@pytest.fixture
def service(tmp_path: Path, settings: Settings) -> Iterator[Service]:
    with running(Coloured(), make_settings(tmp_path / "worker")) as (url, _):
        targets = Targets([Target(EmbeddingClient(url, deadline_s=20, unreachable_s=1), "coloured")])
        service = Service(targets, Library(tmp_path / "library"), settings)
        service.library.begin_indexing()
        yield service
        service.close()


@pytest.fixture
def ids(service: Service, tmp_path: Path) -> dict[int, str]:
    """The pages of a manual of three pages by their numbers; 0 is a picture beside it."""
    manual = upload(tmp_path, "manual.pdf", pdf(MANUAL))
    added = run(service, manual, upload(tmp_path, "a.png", encoded(picture((400, 400))))).added
    until(lambda: service.library.words.count_missing() == 0, 20)
    return {page.page if page.pages > 1 else 0: page.id for page in added}


def ask(service: Service, query: str) -> tuple[LastSearch, dict[str, Hit]]:
    key = at(service.library)
    found = service.search(Question(query), key, 8)
    last = LastSearch(Question(query), tuple(found.hits), found.query.tobytes(), found.fingerprint, collection=key)
    return last, {hit.page.id: hit for hit in found.hits}


def test_the_text_layer_is_kept_though_the_server_reads_nothing(service: Service, ids: dict[int, str]) -> None:
    catalogue = service.library.catalogue
    assert [line.text for line in catalogue.read_lines(ids[1])] == MANUAL[0]
    assert all(line.box is not None for line in catalogue.read_lines(ids[1]))
    assert not catalogue.read_page(ids[0]).read and catalogue.read_lines(ids[0]) == ()
    found = service.find_first(Question("AL-2024/17"), at(service.library), 8)
    assert [(hit.page.id, hit.line and hit.line.text) for hit in found] == [(ids[1], MANUAL[0][1])]


def test_pages_found_have_the_line_with_the_words_where_one_says_them(service: Service, ids: dict[int, str]) -> None:
    _, hits = ask(service, "new valve red")
    assert len(hits) == 4 and not any(hit.by_words for hit in hits.values())
    line = hits[ids[1]].line
    assert line is not None and line.text == MANUAL[0][0] and line.box and hits[ids[1]].line_by_words
    assert hits[ids[0]].line is None and hits[ids[3]].line is None
    _, hits = ask(service, "how does anybody ever water flowers in the desert of a red")
    assert [hit.line for hit in hits.values()] == [None] * 4, "no line says a fair part of it"
    (like,) = service.search(Question(like=ids[1]), at(service.library), 1).hits
    assert like.line is None


def test_the_page_says_where_the_line_is_from_and_looks_for_parts_where_there_is_none(
    service: Service, ids: dict[int, str]
) -> None:
    last, _ = ask(service, "new valve red")
    shown = open_page(service, last, ids[1])
    told = page_regions.render_detail(shown)
    assert "text: the line with most of your words" in told and MANUAL[0][0] in told
    assert "data-where" not in told and 'class="mark"' in told and "is-answer" in told
    for number in (0, 3):
        told = page_regions.render_detail(open_page(service, last, ids[number]))
        assert "data-where" in told and 'class="answer"' not in told
    gallery = results.render_gallery(last.hits)
    assert MANUAL[0][0] in gallery and MANUAL[2][0] not in gallery


def test_parts_are_not_ranked_before_the_server_has_answered(service: Service, ids: dict[int, str]) -> None:
    key = at(service.library)
    hits = service.find_first(Question("descaling the zebra unicorn walrus ocelot"), key, 8)
    assert hits[0].page.id == ids[3] and hits[0].line is None
    last = LastSearch(Question("descaling"), tuple(hits), collection=key)
    assert "data-where" not in page_regions.render_detail(open_page(service, last, ids[3]))
    told = page_regions.show_parts(service, last, key, "", ids[3])
    assert "parts are ranked once the server has answered" in told


def test_other_pages_of_the_document_have_theirs(service: Service, ids: dict[int, str]) -> None:
    last, _ = ask(service, "tulips in april red")
    alone = LastSearch(last.question, (), last.query, last.fingerprint, collection=last.collection)
    shown = open_page(service, alone, ids[2])
    assert shown.hit is None and shown.line is not None and shown.line.text == MANUAL[1][0]
    assert {hit.page.page: hit.line.text for hit in shown.best if hit.line} == {2: MANUAL[1][0]}


def test_parts_are_ranked_of_pages_with_text_too_but_not_where_a_server_has_read_it(
    service: Service, ids: dict[int, str]
) -> None:
    found = page_regions.rank_parts_as_json(service, "red", ids[1], at(service.library), None, None)
    assert len(found["tiles"]) >= 9
    with service.library.database.transaction() as db:
        db.execute("UPDATE vectors SET lines = ? WHERE page = ?", [bytes(12), ids[1]])
    with pytest.raises(BadValueError, match="was read"):
        page_regions.rank_parts_as_json(service, "red", ids[1], at(service.library), None, None)


def test_without_the_index_pages_are_found_without_lines(service: Service, ids: dict[int, str]) -> None:
    service.library.words.close()
    with service.library.database.transaction() as db:
        db.execute("DELETE FROM words_data", [])
    _, hits = ask(service, "new valve red")
    assert len(hits) == 4 and not any(hit.line for hit in hits.values())
    service.library.begin_indexing()
    until(lambda: any(hit.line for hit in ask(service, "new valve red")[1].values()), 20)
    assert ask(service, "new valve red")[1][ids[1]].line_by_words


def test_the_page_with_the_number_that_was_asked_for_comes_first(service: Service, tmp_path: Path) -> None:
    """However far it is from the question: this server sees colours only."""
    texts = [[f"Order {number} of many"] for number in range(30)]
    run(service, upload(tmp_path, "orders.pdf", pdf(texts)), upload(tmp_path, "total.pdf", pdf([["AL-2024/17 red"]])))
    until(lambda: service.library.words.count_missing() == 0, 20)
    key = at(service.library)
    red = service.search(Question("red"), key, 8)
    vector, fingerprint = red.query, red.fingerprint

    def rank(text: str, minimum: float | None = None, **selected: tuple[str, ...]) -> list[tuple[str, int, bool]]:
        question = Question(text, minimum=minimum, selection=Selection(**selected))
        hits = service.rank(question, vector, fingerprint, key, 3).hits
        assert [hit.rank for hit in hits] == [*range(1, len(hits) + 1)]
        return [(hit.page.file, hit.page.page, hit.is_exact) for hit in hits]

    assert rank("al 2024 17")[0] != ("total.pdf", 1, True), "not one word"
    for written in ("AL-2024/17", "al-2024-17", "AL2024/17"):
        found = rank(written)
        assert found[0] == ("total.pdf", 1, True) and len(found) == 3 and not found[1][2]
    assert rank("AL-2024/17", minimum=1.0) == [("total.pdf", 1, True)], "whatever the least score is"
    assert not any(is_exact for _, _, is_exact in rank("AL-2024/17", files=("orders.pdf",)))
    assert not any(is_exact for _, _, is_exact in rank("17")), "two digits are on pages by chance"
    assert not any(is_exact for _, _, is_exact in rank("many"))
    told = results.render_gallery(service.rank(Question("AL-2024/17"), vector, fingerprint, key, 3).hits)
    assert told.count("exact match") == 2
