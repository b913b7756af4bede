"""Searching, scoring and deleting without a page."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from serving.client import EmbeddingClient
from serving.errors import BadValueError, NotFoundError, ServingError, TooLargeError, UnreadableError
from serving.library.library import Library
from serving.library.records import ABSENT, Selection
from tests.support.files import encoded, pdf, picture
from tests.support.hostile_pdfs import AMPLE, NESTED, hostile_pdf
from tests.support.hostile_pictures import endless_jpeg
from tests.support.libraries import at, made
from tests.support.servers import ScriptedWorker, make_settings
from tests.support.uploads import run, upload
from ui.core.service import Question, Service
from ui.servers.target import Target, Targets

PAGES = [["alpha beta gamma delta", "epsilon zeta eta theta"], ["iota kappa lambda mu nu", "xi omicron pi rho"]]


def test_search_by_words(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    found = service.search(Question("alpha beta gamma delta epsilon zeta eta theta"), at(service.library), 2)
    assert [hit.page.page for hit in found.hits] == [1, 2] and found.hits[0].score > 0.5
    assert set(found.timings) == {"embed", "search", "total"} and found.timings["total"] >= found.timings["search"]


def test_search_by_image_finds_the_same_picture(service: Service, tmp_path: Path) -> None:
    images = [upload(tmp_path, f"{n}.png", encoded(picture((100 + n, 80), f"{n}"))) for n in range(3)]
    run(service, *images)
    assert service.search(Question("", images[1].path), at(service.library), 1).hits[0].page.file == "1.png"
    both = service.search(Question("words", images[1].path), at(service.library), 1)
    assert both.hits[0].page.file == "1.png" and np.linalg.norm(both.query) == pytest.approx(1, abs=1e-5)


def test_an_image_that_cannot_be_read_is_told(scripted: ScriptedWorker, tmp_path: Path) -> None:
    targets = Targets([Target(EmbeddingClient(scripted.url), "scripted")])
    settings = make_settings(tmp_path, parser_timeout_s=2, parser_memory_bytes=AMPLE)
    with closing(Service(targets, Library(tmp_path / "library"), settings)) as service:
        question = Question("", upload(tmp_path, "slow.pdf", hostile_pdf(NESTED)).path)
        with pytest.raises(UnreadableError, match="page 1 cannot be drawn: it took longer than 2 s"):
            service.search(question, made(service.library), 3)
        question = Question("", upload(tmp_path, "slow.jpg", endless_jpeg()).path)
        with pytest.raises(UnreadableError, match="this picture cannot be read: it took longer than 2 s"):
            service.search(question, made(service.library), 3)
        words = Question("", upload(tmp_path, "words.pdf", pdf(PAGES[:1])).path)
        assert service.search(words, made(service.library), 3).hits == []


def test_words_and_image_weigh_as_they_are_told(service: Service, tmp_path: Path) -> None:
    images = [upload(tmp_path, f"{n}.png", encoded(picture((100 + n, 80), f"{n}"))) for n in range(3)]
    run(service, *images)
    words, image = (
        service.search(question, at(service.library), 3).query
        for question in (Question("words"), Question("", images[1].path))
    )
    found = {
        w: service.search(Question("words", images[1].path, w), at(service.library), 3).query
        for w in (0, 0.25, 0.5, 0.9, 1)
    }
    assert np.array_equal(found[0], words) and np.array_equal(found[1], image)
    closeness = [float(vector @ image) for vector in found.values()]
    assert closeness == sorted(closeness) and len(set(closeness)) == 5
    assert np.array_equal(service.search(Question("  ", images[1].path, 0), at(service.library), 3).query, image), (
        "no words to weigh"
    )


def test_more_like_a_page_asks_no_server_and_leaves_the_page_out(service: Service, tmp_path: Path) -> None:
    images = [upload(tmp_path, f"{n}.png", encoded(picture((100 + n, 80), f"{n}"))) for n in range(3)]
    run(service, *images)
    hits = service.search(Question("", images[1].path), at(service.library), 3).hits
    service.targets.close()  # whoever asks one now fails
    found = service.search(Question(like=hits[0].page.id), at(service.library), 2)
    assert [hit.rank for hit in found.hits] == [1, 2]
    assert {hit.page.file for hit in found.hits} == {"0.png", "2.png"}
    with pytest.raises(NotFoundError, match="not in the collection"):
        service.search(Question(like=hits[0].page.id), ABSENT, 2)
    for bad in (Question("words", like="x"), Question("", images[0].path, like="x")):
        with pytest.raises(BadValueError, match="like stands alone"):
            service.search(bad, at(service.library), 2)


def test_pages_below_the_minimum_are_counted_and_not_shown(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    all_of_them = service.search(Question(PAGES[0][0]), at(service.library), 2).hits
    between = (all_of_them[0].score + all_of_them[1].score) / 2
    found = service.search(Question(PAGES[0][0], minimum=between), at(service.library), 2)
    assert (found.hits, found.hidden) == (all_of_them[:1], all_of_them[1:])
    assert not service.search(Question(PAGES[0][0], minimum=1.0), at(service.library), 2).hits
    for bad in (Question("a", minimum=1.5), Question("a", minimum=float("nan")), Question("a", weight=-0.1)):
        with pytest.raises(BadValueError, match=r"-1 to 1|0 to 1"):
            service.search(bad, at(service.library), 2)


def test_bad_questions(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    for text in ("", "   ", "\0"):
        with pytest.raises(BadValueError, match="empty"):
            service.search(Question(text), at(service.library), 3)
    for top_k in (0, -1, 51):
        with pytest.raises(BadValueError, match="1 to 50"):
            service.search(Question("a"), at(service.library), top_k)
    with pytest.raises(TooLargeError, match="longer"):
        service.search(Question("x" * 100_000), at(service.library), 3)
    with pytest.raises(BadValueError, match="2560 dimensions"):
        service.search(Question("a"), at(service.library), 3, dimension=7)
    assert service.search(Question("a"), at(service.library), 3, dimension=2560).hits
    assert service.search(Question("a"), ABSENT, 3).hits == []
    with pytest.raises(ServingError):
        service.search(Question("", upload(tmp_path, "x.png", b"no image").path), at(service.library), 3)


def test_hits_say_which_line_answers(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    for page, lines in enumerate(PAGES, 1):
        for text in lines:
            hit = service.search(Question(text), at(service.library), 1).hits[0]
            assert hit.page.page == page and hit.line is not None and hit.line.text == text and hit.line.box is not None


def test_a_filter_comes_before_ranking_and_what_is_hidden_is_counted(service: Service, tmp_path: Path) -> None:
    images = [upload(tmp_path, f"{n}.png", encoded(picture((100 + n, 80), f"{n}"))) for n in range(3)]
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)), *images)
    text = " ".join(PAGES[0])
    assert [hit.page.file for hit in service.search(Question(text), at(service.library), 1).hits] == ["a.pdf"]
    found = service.search(Question(text, selection=Selection(types=("image",))), at(service.library), 2)
    assert len(found.hits) == 2 and found.ranked == 3 and found.below == 0
    assert all(hit.page.file.endswith(".png") for hit in found.hits)
    found = service.search(Question(text, minimum=0.99, selection=Selection(types=("image",))), at(service.library), 2)
    assert (found.hits, found.below, found.ranked) == ([], 3, 3), "all that were ranked, not only the nearest two"
    found = service.search(Question(text, minimum=0.5), at(service.library), 3)
    assert (len(found.hits), found.below, found.ranked) == (1, 4, 5)
    like = service.search(Question(like=found.hits[0].page.id, selection=Selection(("a.pdf",))), at(service.library), 5)
    assert [hit.page.page for hit in like.hits] == [2] and like.ranked == 1
    with pytest.raises(BadValueError, match="no type: there are pdf, image"):
        service.search(Question(text, selection=Selection(types=("exe",))), at(service.library), 2)
    assert service.search(Question(text, selection=Selection(("1.png",), ("pdf",))), at(service.library), 2).hits == []


def test_a_known_question_is_ranked_again_without_a_call(
    service: Service, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    images = [upload(tmp_path, f"{n}.png", encoded(picture((100 + n, 80), f"{n}"))) for n in range(9)]
    run(service, *images)
    found = service.search(Question("what is it?"), at(service.library), 9)
    calls = len(scripted.embedder.calls)
    orders = {}
    for size in (768, 1536, 2560):
        again = service.rank(Question("what is it?"), found.query, found.fingerprint, at(service.library), 9, size)
        orders[size] = [hit.page.id for hit in again.hits]
    service.targets.close()  # whoever asks one now fails
    again = service.rank(Question("what is it?"), found.query, found.fingerprint, at(service.library), 9, 768)
    assert [hit.page.id for hit in again.hits] == orders[768] and len(scripted.embedder.calls) == calls
    assert orders[2560] == [hit.page.id for hit in found.hits] and orders[768] != orders[2560]


def test_many_questions_are_one_call(service: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)), upload(tmp_path, "1.png", encoded(picture((100, 80), "1"))))
    calls = len(scripted.embedder.calls)
    queries = [" ".join(PAGES[0]), "", PAGES[1][0], "  ", " ".join(PAGES[0])]
    found = service.score_pages(queries, at(service.library))
    assert scripted.embedder.calls[calls:] == [found.queries] == [[queries[0], queries[2]]]
    assert [(page.file, page.page) for page in found.pages] == [("1.png", 1), ("a.pdf", 1), ("a.pdf", 2)]
    for query, row in zip(found.queries, found.values, strict=True):
        by_id = {hit.page.id: hit.score for hit in service.search(Question(query), at(service.library), 9).hits}
        assert [by_id[page.id] for page in found.pages] == pytest.approx(list(row), abs=1e-4)
    assert service.score_pages(["a"], at(service.library), Selection(types=("png",)), 768).values.shape == (1, 1)
    assert service.score_pages(["a"], ABSENT).values.shape == (1, 0)


def test_bad_lists_of_questions(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    for queries, told in (([], "no question"), (["", " "], "no question"), (["a", "x" * 9000], "question 2 is longer")):
        with pytest.raises(BadValueError, match=told):
            service.score_pages(queries, at(service.library))
    with pytest.raises(TooLargeError, match="51 questions are too many: ask at most 50"):
        service.score_pages([str(n) for n in range(51)], at(service.library))
    service.settings = service.settings.model_copy(update={"max_matrix_cells": 3})
    with pytest.raises(TooLargeError, match="2 questions with 2 pages are more than 3"):
        service.score_pages(["a", "b"], at(service.library))
    with pytest.raises(BadValueError, match="768 or 1536 or 2560 dimensions"):
        service.score_pages(["a"], at(service.library), dimension=7)
