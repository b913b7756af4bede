from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import BadValueError, ServingError
from tests.files import encoded, pdf, picture
from tests.test_ingest import run, service, upload
from ui.service import Service

__all__ = ["service"]

PAGES = [["alpha beta gamma delta", "epsilon zeta eta theta"], ["iota kappa lambda mu nu", "xi omicron pi rho"]]


def test_search_by_words(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    found = service.search("alpha beta gamma delta epsilon zeta eta theta", None, "c", 2)
    assert [hit.page.page for hit in found.hits] == [1, 2] and found.hits[0].score > 0.6
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


def test_hits_say_which_line_answers(service: Service, tmp_path: Path) -> None:
    run(service, upload(tmp_path, "a.pdf", pdf(PAGES)))
    for page, lines in enumerate(PAGES, 1):
        for text in lines:
            hit = service.search(text, None, "c", 1).hits[0]
            assert hit.page.page == page and hit.line is not None and hit.line.text == text and hit.line.box is not None
