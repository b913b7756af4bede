"""The ranking of pages by their own vectors and by those of their lines."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench.speed.many_pages import (
    FILE_PAGES,
    FINGERPRINT,
    NAME,
    Shape,
    draw_file,
    draw_vectors,
    fill_library,
    name_file,
)
from serving.documents.page import Line
from serving.errors import BadValueError
from serving.library.catalogue import FingerprintError
from serving.library.library import Library
from serving.library.records import Selection
from serving.library.search import LINE_WEIGHT, TITLE_SHARE, choose_line, score_answers, score_lines
from tests.support.libraries import add, at, new
from tests.support.scripted import unit


def found(library: Library, text: str, name: str = "c", count: int = 9) -> set[str]:
    """Ids of the pages that a search finds."""
    return {hit.page.id for hit in library.ranking.search(at(library, name), unit(text, 64), count, "f1")}


def cosine(a: np.ndarray, b: np.ndarray, size: int = 64) -> float:
    length = float(np.linalg.norm(a[:size]) * np.linalg.norm(b[:size]))
    return float(a[:size] @ b[:size]) / length if length else 0.0


def best_lines(lines: np.ndarray, question: np.ndarray, size: int = 64) -> float:
    """What the lines say of a page, one by one: the nearest, and the nearest two that follow each other."""
    cut = [line[:size] / (np.linalg.norm(line[:size]) or 1) for line in lines]
    two = [one + other for one, other in pairwise(cut)]
    return (max(cosine(x, question, size) for x in cut) + max(cosine(x, question, size) for x in [*two, cut[-1]])) / 2


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
    right = np.stack([unit(f"line 1 {n}", 64) for n in range(4)])
    told = best_lines(right, unit("line 1 2", 64))
    assert hits[0].score == pytest.approx((1 - LINE_WEIGHT) * page + LINE_WEIGHT * told, abs=2e-3)
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
    for question, marked in ((QUESTION, 2), (SUBJECT, 1), (OTHER, 3)):
        for dimension in (None, 8):
            (hit,) = library.ranking.search(at(library), question, 1, "f1", dimension=dimension)
            length = 1.0 if dimension else float(np.linalg.norm(question))
            page, told = length * cosine(question, SUBJECT), length * best_lines(TITLED, question)
            assert hit.line == lines[marked], "the title itself answers who asks for nothing else"
            assert hit.score == pytest.approx((1 - LINE_WEIGHT) * page + LINE_WEIGHT * told, abs=2e-3)


def test_an_answer_that_is_broken_over_two_lines_counts_for_its_page(library: Library) -> None:
    """Both pages have a line that is as near; on one of them the next line goes on with the answer."""
    first, second, else_ = np.eye(64, dtype=np.float32)[3:6]
    for page, following in ((1, else_), (2, second)):
        lines = np.stack([0.6 * first + 0.8 * else_, first, following])
        add(library, new("a.pdf", page, vector=SUBJECT, line_vectors=lines))
    question = (first + second) / np.float32(np.sqrt(2))
    hits = library.ranking.search(at(library), question, 2, "f1")
    assert [hit.page.page for hit in hits] == [2, 1]
    assert hits[0].score == pytest.approx(LINE_WEIGHT * (1 + 0.7071) / 2, abs=2e-3)


def test_lines_that_say_the_opposite_have_no_sum() -> None:
    rows = np.stack([SUBJECT, -SUBJECT, ANSWER])
    with np.errstate(all="raise"):
        told = score_lines(rows, np.stack([rows @ SUBJECT, rows @ QUESTION]), np.array([0, 2]))
    assert told.shape == (2, 2) and told[0] == pytest.approx([0.5, 0.0])


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

    def score(page_id: str, size: int) -> float:
        page = cosine(rows[page_id], question, size)
        return (1 - LINE_WEIGHT) * page + LINE_WEIGHT * best_lines(lines[page_id], question, size) if lined else page

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


def test_a_search_among_pages_gives_them_the_scores_of_a_whole_search(library: Library) -> None:
    for number in range(5):
        add(library, new("a.pdf", number + 1, line_vectors=np.stack([unit(f"{number}", 64), unit("x", 64)])))
    whole = {hit.page.id: hit for hit in library.ranking.search(at(library), unit("q", 64), 9, "f1")}
    some = frozenset(list(whole)[1:4])
    among = library.ranking.search_among(at(library), unit("q", 64), 9, "f1", some | {"0" * 16})
    assert {hit.page.id for hit in among} == some and [hit.rank for hit in among] == [1, 2, 3]
    assert all(hit.line == whole[hit.page.id].line for hit in among)
    assert [hit.score for hit in among] == pytest.approx([whole[hit.page.id].score for hit in among])
    assert library.ranking.search_among(at(library), unit("q", 64), 9, "f1", frozenset()) == []
    few = library.ranking.search_among(at(library), unit("q", 64), 9, "f1", some, marked=1)
    assert [hit.page.id for hit in few] == [hit.page.id for hit in among]
    assert few[0].line == among[0].line is not None and {hit.line for hit in few[1:]} == {None}


@pytest.mark.soak
def test_twenty_thousand_pages_are_filtered_and_changed_as_numpy_says(tmp_path: Path) -> None:
    """Against a plain scan: filters of each kind, while pages are added and files deleted by other threads."""
    shape = Shape(20_000, 384, has_lines=False)
    fill_library(tmp_path, shape)
    rows = draw_vectors(shape).astype(np.float32)
    with closing(Library(tmp_path)) as library:
        key = library.catalogue.find_collection(NAME).key
        kept = 10_000  # pages of the first thousand files stay as they are
        files = {name_file(n) for n in range(kept // FILE_PAGES)}

        def change() -> None:
            for number in range(1_900, 2_000):
                library.delete_file(key, f"{number:064x}")
                for page in draw_file(shape, number + 10_000)[:2]:
                    library.add_page(key, page, fingerprint=FINGERPRINT, model="m")

        with ThreadPoolExecutor(1) as pool:
            changing = pool.submit(change)
            turn = 0
            while turn < 30 or not changing.done():
                turn += 1
                query = rows[turn * 331 % kept]
                for of, wanted in (
                    (Selection(files=(name_file(turn), name_file(turn + 1))), np.arange(10 * turn, 10 * turn + 20)),
                    (Selection(files=tuple(files)), np.arange(kept)),
                    (Selection(files=tuple(files), types=("png",)), np.arange(kept)[np.arange(kept) // 10 % 4 == 3]),
                    (Selection(folder="area 3/shelf 3"), np.arange(3_000, 4_000)),
                ):
                    assert library.ranking.count_pages(key, of) == len(wanted)
                    hits = library.ranking.search(key, query, 8, FINGERPRINT, of)
                    best = np.sort(rows[wanted] @ query)[::-1][:8]
                    assert [hit.score for hit in hits] == pytest.approx(best.tolist(), abs=2e-3)
            changing.result()
        assert library.ranking.count_pages(key, Selection()) == 20_000 - 1_000 + 200
        assert library.ranking.count_pages(key, Selection()) == library.catalogue.read_collection(key).pages
        ids = library.catalogue.list_page_ids(key)
        pages, _ = library.ranking.score_pages(key, rows[:1], FINGERPRINT)
        assert sorted(ids) == sorted(page.id for page in pages)
