from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from serving.library.records import StoredPage
from ui.core.service import ScoredPages
from ui.search import score_matrix


def page(number: int, file: str = "a.pdf", pages: int = 1) -> StoredPage:
    return StoredPage(f"{number:016x}", "c", file, number, pages, 100, 200, True)


def scores(queries: list[str], pages: list[StoredPage], seed: int = 0) -> ScoredPages:
    values = np.random.default_rng(seed).uniform(-0.2, 0.9, (len(queries), len(pages))).astype(np.float32)
    return ScoredPages(queries, pages, values, {})


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1", "  =1"])
def test_no_cell_of_text_is_a_formula(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    found = scores([start, "plain, with a comma"], [page(1, f"{start}.png"), page(2, "fine.pdf", 3)])
    path = score_matrix.write_csv(found)
    assert path.is_relative_to(tmp_path / "uploads") and path.read_bytes().startswith(b"\xef\xbb\xbf"), "Excel's mark"
    read = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    assert read[0] == ["question", f"'{start}.png", "fine.pdf, page 2"]
    assert [row[0] for row in read[1:]] == [f"'{start}", "plain, with a comma"]
    assert np.array([row[1:] for row in read[1:]], float) == pytest.approx(found.values, abs=1e-6)


def test_nothing_of_a_user_is_markup() -> None:
    nasty = '"><img src=x onerror=alert(1)>'
    html = score_matrix.render_heat_map(scores([nasty], [page(1, nasty), page(2)]))
    assert "<img src=x" not in html and "&lt;img src=x" in html


def test_every_cell_has_its_number_and_the_best_is_marked() -> None:
    found = scores(["one", "two"], [page(n) for n in range(5)])
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", score_matrix.render_heat_map(found))
    for row, values in zip(rows, found.values, strict=True):
        cells = re.findall(r"<td class=\"heat-(\d)\".*?</td>", row)
        assert len(cells) == 5 and {cells[int(values.argmax())], cells[int(values.argmin())]} == {"4", "0"}
        assert row.count("★") == 1 and f"</span>{values.max():.3f}</b>" in row
        assert all(f"{value:.3f}" in row for value in values)


def test_the_map_shows_the_best_pages_of_each_question_and_says_so() -> None:
    found = scores([f"question {n}" for n in range(6)], [page(n) for n in range(300)])
    shown = score_matrix.select_columns(found.values)
    assert len(shown) == score_matrix.COLUMNS and shown == sorted(shown)
    for values in found.values:
        assert set(np.argsort(-values)[:4]) <= set(shown)
    html = score_matrix.render_heat_map(found)
    assert "The 24 that answer best are shown; the CSV has all 300" in html and html.count('scope="col"') == 25
    assert score_matrix.shade_scores(np.full(3, 0.5, np.float32)) == [4, 4, 4]
