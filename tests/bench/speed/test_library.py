"""The bench of a library of very many pages, with few."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.speed import many_pages as bench
from bench.speed.many_pages import Shape, draw_file, draw_vectors, fill_library
from serving.library.library import Library
from serving.library.records import Selection


@pytest.mark.parametrize("shape", [Shape(120, 384, has_lines=True), Shape(120, 64, has_lines=False)])
def test_a_made_up_library_has_what_its_shape_says(tmp_path: Path, shape: Shape) -> None:
    fill_library(tmp_path, shape)
    with closing(Library(tmp_path)) as library:
        found = library.catalogue.find_collection(bench.NAME)
        assert (found.pages, found.dimension, len(library.catalogue.list_files(found.key))) == (
            120,
            shape.dimension,
            12,
        )
        pages, scores = library.ranking.score_pages(
            found.key, draw_vectors(shape)[:3].astype(np.float32), bench.FINGERPRINT
        )
        assert len(pages) == 120 and scores.argmax(axis=1).tolist() == [0, 1, 2]
        assert library.ranking.count_pages(found.key, Selection(types=("pdf",))) == 90
        storage = library.measure_storage(found.key)
        assert storage.pictures == 120 * 2 * len(bench.PICTURE) and (storage.data > 120 * 30 * 768) == shape.has_lines
        line = library.catalogue.read_marked_lines({pages[7].id: 3}).get(pages[7].id)
        assert (line is not None) == shape.has_lines
    vectors = draw_vectors(shape).astype(np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-3)
    assert (draw_file(shape, 3)[4].vector.astype(np.float16) == draw_vectors(shape)[34]).all()


def test_the_result_has_each_figure_with_its_n(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "library.json"
    assert main(["library", "--pages", "200", "--searches", "3", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    with_lines, without = written["collections"]
    words = written["words"]
    assert (words["pages"], words["search"]["n"]) == (200, 3) and words["index_mb"] > 0.1 and words["index_s"] > 0
    for found, dimension, lines in ((with_lines, 384, 30), (without, 2560, 0)):
        assert (found["pages"], found["files"], found["dimension"], found["lines"]) == (200, 20, dimension, lines)
        assert set(found["searches"]) == {"plain", "file", "folder", "type", "last half"}
        assert all(figures["n"] == 3 and figures["p95_ms"] > 0 for figures in found["searches"].values())
        assert found["first_search_s"] > 0 and found["scan"]["ratio"] > 0
        assert found["changes"]["deleted_pages"] > 100 and found["delete_collection_s"] > 0
    said = capsys.readouterr().out
    assert "200 pages x 384 numbers, 30 lines each: first search" in said and "goal 250" in said
    assert "200 pages by their words: indexed in" in said
