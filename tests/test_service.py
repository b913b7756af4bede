from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import BadValueError, ServingError
from serving.pages import Line
from tests.conftest import ScriptedWorker
from tests.files import encoded, pdf, picture
from tests.test_ingest import run, service, upload
from ui.answers import rows
from ui.service import Service

__all__ = ["service"]

PAGES = [["alpha beta gamma delta", "epsilon zeta eta theta"], ["iota kappa lambda mu nu", "xi omicron pi rho"]]


def test_search_by_words(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    found = service.search("alpha beta gamma delta epsilon zeta eta theta", None, "c", 2)
    assert [hit.page.page for hit in found.hits] == [1, 2] and found.hits[0].score > 0.99
    assert set(found.timings) == {"embed", "search", "total"} and found.timings["total"] >= found.timings["search"]


def test_search_by_image_finds_the_same_picture(service: Service, tmp_path: Path) -> None:
    images = [upload(tmp_path, f"{n}.png", encoded(picture((100 + n, 80), f"{n}"))) for n in range(3)]
    run(service, *images)
    assert service.search("", images[1].path, "c", 1).hits[0].page.file == "1.png"
    both = service.search("words", images[1].path, "c", 1)
    assert both.hits[0].page.file == "1.png" and np.linalg.norm(both.query) == pytest.approx(1, abs=1e-5)


def test_bad_questions(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    for text in ("", "   ", "\0"):
        with pytest.raises(BadValueError, match="empty"):
            service.search(text, None, "c", 3)
    for top_k in (0, -1, 51):
        with pytest.raises(BadValueError, match="1 to 50"):
            service.search("a", None, "c", top_k)
    with pytest.raises(BadValueError, match="longer"):
        service.search("x" * 100_000, None, "c", 3)
    with pytest.raises(BadValueError, match="2560 dimensions"):
        service.search("a", None, "c", 3, dimension=7)
    assert service.search("a", None, "c", 3, dimension=2560).hits
    assert service.search("a", None, "unknown", 3).hits == []
    with pytest.raises(ServingError):
        service.search("", upload(tmp_path, "x.png", b"no image").path, "c", 3)


def test_answering_line(service: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    job = run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    page = next(page for page in job.added if page.page == 1)
    found = service.search(PAGES[0][1], None, "c", 1)
    line = service.answering_line(page, found.query)
    assert line is not None and line.text == PAGES[0][1] and line.box is not None
    calls = len(scripted.embedder.calls)
    service.answering_line(page, found.query)
    assert len(scripted.embedder.calls) == calls  # the page's lines are embedded once


def test_rows_join_cells_but_not_columns() -> None:
    cells = [Line("Total due", (0.1, 0.5, 0.3, 0.52)), Line("2,917.43", (0.8, 0.501, 0.9, 0.521))]
    below = Line("next row", (0.1, 0.6, 0.3, 0.62))
    assert [row.text for row in rows([*cells, below])] == ["Total due 2,917.43", "next row"]
    assert rows(cells)[0].box == (0.1, 0.5, 0.9, 0.521)
    prose = "a column of a newspaper that goes on and on"
    columns = [Line(prose, (0.1, 0.5, 0.45, 0.52)), Line(prose, (0.55, 0.5, 0.9, 0.52))]
    assert len(rows(columns)) == 2 and len(rows([Line("no"), Line("box")])) == 2
