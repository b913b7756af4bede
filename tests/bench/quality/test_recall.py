"""Recall: labels, the right page's rank and marked line in a real library, and the figures of each kind of query."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bench.__main__ import main
from bench.quality import recall
from bench.quality.recall import KindRecall, LabelledQuery, QueryRank
from serving.client import EmbeddingClient
from serving.settings import Settings
from tests.support.files import encoded, pdf
from tests.support.scripted import Coloured, Scripted
from tests.support.servers import make_settings, running

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, colour in COLOURS.items():
        (folder / f"{name}.png").write_bytes(encoded(Image.new("RGB", (60, 40), colour)))
    (folder / "README.md").write_text("no page")
    queries = [{"query": name, "kind": "colour", "file": f"{name}.png", "page": 1} for name in COLOURS]
    queries += [{"query": "red", "kind": "wrong", "file": "blue.png", "page": 1}]
    (folder / "queries.json").write_text(json.dumps({"queries": queries}))
    return folder


def rank(kind: str, place: int) -> QueryRank:
    return QueryRank(LabelledQuery("q", kind, "f", 1), place)


def test_figures_by_hand() -> None:
    ranks = [rank("a", 1), rank("b", 2), rank("a", 4), rank("b", 1)]
    assert recall.summarise_kinds(ranks) == [
        KindRecall("a", 2, 0.5, 0.5, pytest.approx(0.625)),  # type: ignore[arg-type]
        KindRecall("b", 2, 0.5, 1.0, pytest.approx(0.75)),  # type: ignore[arg-type]
        KindRecall("all", 4, 0.5, 0.75, pytest.approx(0.6875)),  # type: ignore[arg-type]
    ]
    lines = recall.render_table(recall.summarise_kinds(ranks)).splitlines()
    assert lines[0].split() == ["kind", "n", "recall@1", "recall@3", "MRR", "lines", "hit@1"]
    assert lines[-1].split() == ["all", "4", "0.500", "0.750", "0.688", "0", "-"]


def test_lines_are_counted_where_they_are_labelled_wherever_the_page_ranks() -> None:
    def marked(kind: str, place: int, line: str | None, *lines: str) -> QueryRank:
        return QueryRank(LabelledQuery("q", kind, "f", 1, lines), place, line)

    ranks = [marked("a", 1, "Total due 12.00", "total due"), marked("a", 9, "Subtotal", "total due")]
    ranks += [marked("a", 1, "anything"), marked("b", 3, None, "total due"), marked("b", 3, "TOTAL DUE", "total due")]
    rows = recall.summarise_kinds(ranks)
    assert [(row.kind, row.n, row.lines, row.line_hit_at_1) for row in rows] == [
        ("a", 3, 2, 0.5), ("b", 2, 2, 0.5), ("all", 5, 4, 0.5)
    ]  # fmt: skip
    assert recall.render_table(rows).splitlines()[-1].split()[-2:] == ["4", "0.500"]


@pytest.mark.parametrize(
    ("marked", "piece", "right"),
    [
        ("Total due € 2,917.43", "TOTAL-DUE", True),
        ("Account 77 Total due € 2,917.43 Thank you", "Total due € 2917", True),  # a longer row
        ("Total due", "Total due € 2,917.43", True),  # a shorter one
        ("Total", "Total due € 2,917.43", False),  # it could stand anywhere
        ("蒸気口キャップ 週に１回", "週に1回", True),
        ("Zażółć gęślą", "zażółć", True),
        ("Subtotal", "Total due", False),
        ("", "Total due", False),
        ("·", "Total due", False),
    ],
)
def test_a_line_is_matched_by_its_letters_and_digits(marked: str, piece: str, right: bool) -> None:
    assert recall.match_line(marked, [piece]) is right and recall.match_line(marked, ["absent", piece]) is right
    assert not recall.match_line(marked, [])


def test_the_shipped_labels_name_pages_that_are_there() -> None:
    labels = recall.load_labels(recall.CORPUS)
    files = {path.name for path in recall.list_page_files(recall.CORPUS)}
    assert len(labels) > 20 and {label.file for label in labels} <= files
    assert not files & {"queries.json", "README.md"} and min(label.page for label in labels) == 1
    assert sum(bool(label.lines) for label in labels) > 0.9 * len(labels)


LINED = '{"queries": [{"query": "q", "kind": "k", "file": "f", "page": 1, "lines": %s}]}'


@pytest.mark.parametrize(
    "content",
    [
        None, "[]", "{", '{"queries": [{"query": "q"}]}', '{"queries": 3}',
        LINED % '"total"', LINED % "[3]", LINED % '[""]', LINED % '["a", "…"]', LINED % "null",
    ],
)  # fmt: skip
def test_labels_that_are_none_are_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "queries.json").write_text(content)
    with pytest.raises(ValueError, match="is not a list of labelled queries"):
        recall.load_labels(tmp_path)


def test_pages_are_read_as_the_page_sends_them(corpus: Path, settings: Settings) -> None:
    pages = dict(recall.read_pages(corpus, settings))
    assert list(pages) == [("blue.png", 1), ("green.png", 1), ("red.png", 1)]
    assert all(payload.image.startswith(b"\xff\xd8") and payload.lines is None for payload in pages.values())


def test_the_right_page_is_ranked_by_a_real_library(corpus: Path, tmp_path: Path) -> None:
    with running(Coloured(), make_settings(tmp_path / "worker")) as (url, _):
        ranked = recall.rank_pages(EmbeddingClient(url), corpus, make_settings(tmp_path / "pages"))
    ranks = ranked.by_vectors
    assert [one.rank for one in ranked.by_words] == [3] * 4, "pictures have no words"
    assert [one.rank for one in ranks[:3]] == [1, 1, 1] and ranks[3].rank > 1
    assert [one.label.query for one in ranks] == ["red", "green", "blue", "red"]


def test_a_label_of_no_page_is_refused(corpus: Path, tmp_path: Path) -> None:
    queries = [{"query": "red", "kind": "k", "file": "red.png", "page": 2}]
    (corpus / "queries.json").write_text(json.dumps({"queries": queries}))
    missing = pytest.raises(ValueError, match=r"names pages that are not there: \[\('red.png', 2\)\]")
    with running(Coloured(), make_settings(tmp_path / "worker")) as (url, _), missing:
        recall.rank_pages(EmbeddingClient(url), corpus, make_settings(tmp_path / "pages"))


def test_the_command_writes_figures_and_every_rank(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    with running(Coloured(), make_settings(tmp_path / "worker")) as (url, _):
        assert main(["quality", "--url", url, "--corpus", str(corpus), "--out", str(out), "--misses"]) == 0
    written = json.loads(out.read_text())
    assert (written["kind"], written["model"]) == ("quality", "coloured") and written["fingerprint"]
    assert [row["kind"] for row in written["table"]] == ["colour", "wrong", "all"]
    page = {"query": "red", "kind": "colour", "file": "red.png", "page": 1, "rank": 1}
    assert written["samples"][0] == {**page, "lines": [], "marked": None, "line_is_right": None}
    said, _, by_words = capsys.readouterr().out.partition("by the words of the pages alone")
    assert "rank " in said and "(blue.png: None)" in said and "(green.png" not in said
    assert "(green.png: None)" in by_words and [one["rank"] for one in written["words"]["samples"]] == [3] * 4


def test_the_command_counts_the_lines_that_a_library_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The double finds a line by its own words: of two queries for the total, one is labelled with another line."""
    words = ["Invoice of a lamp maker", "Subtotal 2,538.00", "Total due 2,917.43"]
    (tmp_path / "bill.pdf").write_bytes(pdf([words]))
    asked = {"query": words[2], "kind": "k", "file": "bill.pdf", "page": 1}
    queries = [{**asked, "lines": ["due 2917"]}, {**asked, "lines": ["Subtotal"]}, asked]
    (tmp_path / "queries.json").write_text(json.dumps({"queries": queries}))
    out = tmp_path / "out.json"
    with running(Scripted(), make_settings(tmp_path / "worker")) as (url, _):
        assert main(["quality", "--url", url, "--corpus", str(tmp_path), "--out", str(out), "--misses"]) == 0
    written = json.loads(out.read_text())
    assert [(row["lines"], row["line_hit_at_1"]) for row in written["table"]] == [(2, 0.5), (2, 0.5)]
    assert [one["line_is_right"] for one in written["samples"]] == [True, False, None]
    assert {one["marked"] for one in written["samples"]} == {words[2]}
    said, _, by_words = capsys.readouterr().out.partition("by the words of the pages alone")
    assert said.count("(bill.pdf: Total due 2,917.43)") == by_words.count("(bill.pdf: Total due 2,917.43)") == 1
