"""The ranking of pages by their own vectors and by those of their lines."""

from __future__ import annotations

import time

import numpy as np
import pytest

from serving.documents.page import Line
from serving.errors import BadValueError
from serving.library.catalogue import FingerprintError
from serving.library.library import Library
from serving.library.records import Selection
from serving.library.search import LINE_WEIGHT, TITLE_SHARE, choose_line, score_answers
from tests.support.libraries import add, at, new
from tests.support.scripted import unit


def found(library: Library, text: str, name: str = "c", count: int = 9) -> set[str]:
    """Ids of the pages that a search finds."""
    return {hit.page.id for hit in library.ranking.search(at(library, name), unit(text, 64), count, "f1")}


def test_the_best_line_counts_and_is_told(library: Library) -> None:
    """Three pages alike but for one line: the page whose line is nearest comes first, and its line is named."""
    base = unit("all alike", 64)
    for number in range(3):
        lines = tuple(Line(f"line {number} {n}", (0.0, n / 10, 1.0, n / 10 + 0.05)) for n in range(4))
        vectors = np.stack([unit(line.text, 64) for line in lines])
        add(library, new("a.pdf", number + 1, vector=base, lines=lines, line_vectors=vectors))
    add(library, new("plain.png", vector=base, lines=None))
    hits = library.ranking.search(at(library), unit("line 1 2", 64), 4, "f1")
    assert hits[0].page.page == 2 and hits[0].line == Line("line 1 2", (0.0, 0.2, 1.0, 0.25))
    page = float(base @ unit("line 1 2", 64))
    assert hits[0].score == pytest.approx((1 - LINE_WEIGHT) * page + LINE_WEIGHT, abs=2e-3)
    plain = next(hit for hit in hits if hit.page.file == "plain.png")
    assert plain.line is None and plain.score == pytest.approx(page, abs=2e-3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


SUBJECT, ANSWER, OTHER = np.eye(64, dtype=np.float32)[:3]
TITLED = np.stack([0 * SUBJECT, SUBJECT, 0.8 * SUBJECT + 0.6 * ANSWER, 0.8 * SUBJECT + 0.6 * OTHER])
"""A line without a vector, the title, and two lines that share its subject."""
QUESTION = 0.95 * SUBJECT + 0.31 * ANSWER


def test_the_line_beyond_the_title_is_marked_and_the_nearest_one_counts(library: Library) -> None:
    """A question about the page's subject is nearest to the title; the line that says more of it is marked."""
    lines = tuple(Line(text) for text in ("7", "Lamps", "Lamps, total due", "Lamps, thank you"))
    add(library, new("bill.pdf", vector=SUBJECT, lines=lines, line_vectors=TITLED))
    for question, marked, nearest in ((QUESTION, 2, 0.95), (SUBJECT, 1, 1.0), (OTHER, 3, 0.6)):
        for dimension in (None, 8):
            (hit,) = library.ranking.search(at(library), question, 1, "f1", dimension=dimension)
            page = float(question @ SUBJECT) / (float(np.linalg.norm(question)) if dimension else 1)
            assert hit.line == lines[marked], "the title itself answers who asks for nothing else"
            assert hit.score == pytest.approx((1 - LINE_WEIGHT) * page + LINE_WEIGHT * nearest, abs=2e-3)


def test_a_line_counts_less_by_what_it_shares_with_the_title() -> None:
    cosines = TITLED @ QUESTION
    np.testing.assert_allclose(score_answers(cosines, TITLED)[2], 0.946 - TITLE_SHARE * 0.95 * 0.8, atol=1e-5)
    blank, alone = np.zeros((2, 64), np.float16), TITLED[1:2].astype(np.float16)
    assert choose_line(blank, QUESTION) == choose_line(alone, QUESTION) == 0


def test_a_selection_is_made_before_ranking(library: Library) -> None:
    """The nearest pages are of other files: they take no place, whatever top_k is."""
    near = [add(library, new("near.pdf", page)) for page in (1, 2, 3)]
    far = [add(library, new(name)) for name in ("far.png", "Photo.JPG", "scan")]
    question = unit("near.pdf 1", 64)
    assert library.ranking.search(at(library), question, 1, "f1")[0].page.id == near[0]
    for of, ids in (
        (Selection(("far.png",)), {far[0]}),
        (Selection(types=("image",)), set(far[:2])),
        (Selection(types=("jpeg",)), {far[1]}),
        (Selection(types=("other",)), {far[2]}),
        (Selection(types=("pdf", "png")), {*near, far[0]}),
        (Selection(("near.pdf", "scan"), ("pdf",)), set(near)),
        (Selection(("scan",), ("pdf",)), set()),
    ):
        hits = library.ranking.search(at(library), question, 9, "f1", of)
        assert {hit.page.id for hit in hits} == ids and library.ranking.count_pages(at(library), of) == len(ids)
        assert [hit.rank for hit in hits] == list(range(1, len(ids) + 1))
    assert len(library.ranking.search(at(library), question, 1, "f1", Selection(types=("image",)))) == 1
    assert library.catalogue.list_file_names(at(library)) == [
        ("near.pdf", 3),
        ("far.png", 1),
        ("Photo.JPG", 1),
        ("scan", 1),
    ]
    assert library.ranking.count_pages(at(library), Selection()) == 6
    with pytest.raises(BadValueError, match=r"no file 'gone\.png'"):
        library.ranking.search(at(library), question, 3, "f1", Selection(("gone.png",)))


def test_folder_and_time_are_selected_before_ranking(library: Library) -> None:
    old = [add(library, new(name)) for name in ("manuals/pump/a.pdf", "manuals/b.pdf", "c.pdf")]
    time.sleep(0.01)
    then = time.time()
    late = add(library, new("manuals/d.pdf"))
    question = unit("c.pdf 1", 64)
    for of, ids in (
        (Selection(folder="manuals"), {*old[:2], late}),
        (Selection(folder="manuals/pump"), {old[0]}),
        (Selection(added_after=then), {late}),
        (Selection(added_after=0.0), {*old, late}),
        (Selection(("manuals/b.pdf",), folder="manuals", added_after=then), set()),
    ):
        assert {hit.page.id for hit in library.ranking.search(at(library), question, 9, "f1", of)} == ids
        assert library.ranking.count_pages(at(library), of) == len(ids)
    assert len(library.ranking.search(at(library), question, 1, "f1", Selection(folder="manuals"))) == 1
    with pytest.raises(BadValueError, match="no folder 'elsewhere'"):
        library.ranking.count_pages(at(library), Selection(folder="elsewhere"))
    files = library.catalogue.list_files(at(library))
    assert [file.added for file in files] == sorted(file.added for file in files) and files[-1].added >= then


@pytest.mark.parametrize("lined", [False, True])
def test_fewer_numbers_rank_as_cut_vectors_do(library: Library, lined: bool) -> None:
    rows, lines = {}, {}
    for page in range(1, 40):
        line = np.stack([unit(f"line {page} {n}", 64) for n in range(3)])
        line[2] = 0  # a line that answers nothing
        page_id = add(library, new("a.pdf", page, line_vectors=line if lined else None))
        rows[page_id], lines[page_id] = unit(f"a.pdf {page}", 64), line
    question = unit("question", 64)

    def cosine(a: np.ndarray, b: np.ndarray, size: int) -> float:
        length = float(np.linalg.norm(a[:size]) * np.linalg.norm(b[:size]))
        return float(a[:size] @ b[:size]) / length if length else 0.0

    def score(page_id: str, size: int) -> float:
        page = cosine(rows[page_id], question, size)
        best = max(cosine(line, question, size) for line in lines[page_id])
        return (1 - LINE_WEIGHT) * page + LINE_WEIGHT * best if lined else page

    orders = []
    for size in (8, 32, 64):
        expected = sorted(rows, key=lambda page_id: -score(page_id, size))[:12]
        hits = library.ranking.search(at(library), question, 12, "f1", dimension=size)
        assert [hit.page.id for hit in hits] == expected
        assert [hit.score for hit in hits] == pytest.approx([score(hit.page.id, size) for hit in hits], abs=2e-3)
        orders.append(expected)
    assert orders[0] != orders[2] and library.ranking.search(at(library), question, 12, "f1") == hits


def test_scores_of_many_questions_are_those_of_each_search(library: Library) -> None:
    for page in range(1, 8):
        lines = tuple(Line(f"line {page} {n}") for n in range(3))
        vectors = np.stack([unit(line.text, 64) for line in lines])
        add(library, new("a.pdf", page, lines=lines, line_vectors=vectors))
    add(library, new("plain.png", lines=None))
    questions = np.stack([unit(text, 64) for text in ("line 3 1", "a.pdf 5", "else")])
    for of, dimension in ((Selection(), None), (Selection(types=("pdf",)), 16)):
        pages, scores = library.ranking.score_pages(at(library), questions, "f1", of, dimension)
        assert [page.page for page in pages][:7] == list(range(1, 8)) and scores.shape == (
            3,
            library.ranking.count_pages(at(library), of),
        )
        for row, question in zip(scores, questions, strict=True):
            hits = library.ranking.search(at(library), question, 20, "f1", of, dimension)
            by_id = {hit.page.id: hit.score for hit in hits}
            assert [by_id[page.id] for page in pages] == pytest.approx(list(row), abs=1e-5)
    assert library.ranking.score_pages(at(library, "nobody"), questions, "f1")[1].shape == (3, 0)
    with pytest.raises(FingerprintError):
        library.ranking.score_pages(at(library), questions, "f2")
