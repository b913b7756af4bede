"""Where on a page: geometry and scores, against a real worker whose embedder sees colours and reads nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.client import EmbeddingClient
from serving.documents.boxes import Box
from serving.errors import BadValueError, NotFoundError
from serving.library.catalogue import FingerprintError
from serving.library.library import Library
from serving.library.records import ABSENT, StoredPage
from serving.settings import Settings
from tests.support.corner_pages import CORNERS, cornered
from tests.support.files import encoded, pdf, picture
from tests.support.hits import NASTY, opened
from tests.support.libraries import at
from tests.support.scripted import Coloured
from tests.support.servers import make_settings, running
from tests.support.uploads import run, upload
from tests.support.waiting import until
from ui.core.service import Question, Service
from ui.search import page_regions
from ui.search.document import open_page
from ui.search.page_regions import Part, RankedParts
from ui.search.question import LastSearch
from ui.servers.target import Target, Targets

COLLECTION = "c"


@pytest.fixture
def double() -> Iterator[Coloured]:
    embedder = Coloured()
    yield embedder
    embedder.gate.set()


def served(double: Coloured, folder: Path, page: Settings, **worker: object) -> Iterator[Service]:
    with running(double, make_settings(folder / "worker", **worker)) as (url, _):
        targets = Targets([Target(EmbeddingClient(url, deadline_s=20, unreachable_s=1), "coloured")])
        service = Service(targets, Library(folder / "library"), page)
        yield service
        double.gate.set()
        service.close()


@pytest.fixture
def service(double: Coloured, tmp_path: Path, settings: Settings) -> Iterator[Service]:
    yield from served(double, tmp_path, settings)


def kept(service: Service, folder: Path, image: Image.Image, name: str = "a.png") -> StoredPage:
    (page,) = run(service, upload(folder, name, encoded(image))).added
    return page


def asked(service: Service, query: str = "red") -> LastSearch:
    found = service.search(Question(query), at(service.library), 5)
    return LastSearch(
        Question(query),
        tuple(found.hits),
        found.query.tobytes(),
        found.fingerprint,
        collection=at(service.library),
    )


def best_box(found: dict[str, object]) -> Box:
    return tuple(found["tiles"][found["best"]]["box"])  # type: ignore[index,return-value]


# Geometry


@pytest.mark.parametrize("size", [(1414, 2000), (2000, 1414), (1600, 900), (900, 900), (500, 2000), (2000, 300)])
def test_parts_cover_the_page_and_are_nearly_square(size: tuple[int, int]) -> None:
    cuts = page_regions.cut_page(*size)
    assert page_regions.FEWEST <= len(cuts) <= page_regions.MOST == 16
    covered = np.zeros((200, 200), int)
    for left, top, right, bottom in cuts:
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        assert 0.7 < (right - left) * size[0] / ((bottom - top) * size[1]) < 1.45
        covered[round(200 * top) : round(200 * bottom), round(200 * left) : round(200 * right)] += 1
    assert covered.min() == 1 and covered.max() in (2, 4), "each part reaches into its neighbours, and only into those"
    assert 0.1 < (covered > 1).mean() < 0.5


@pytest.mark.parametrize(("size", "count"), [((1, 1), 1), ((60, 60), 1), ((100, 100), 4), ((60, 1000), 16)])
def test_a_part_has_something_to_see(size: tuple[int, int], count: int) -> None:
    cuts = page_regions.cut_page(*size)
    assert len(cuts) == count
    image = Image.new("RGB", size)
    for box in cuts:
        assert min(page_regions.crop_part(image, box).size) >= min(*size, page_regions.SMALLEST)


def parts(*scores: float, columns: int = 2) -> RankedParts:
    rows = len(scores) // columns
    cuts = [(a, b, c, d) for b, d in page_regions.split_axis(rows) for a, c in page_regions.split_axis(columns)]
    return RankedParts(tuple(Part(box, score) for box, score in zip(cuts, scores, strict=True)), 1.0, 1200.0)


def test_heat_is_the_mean_of_the_parts_that_cover_a_cell() -> None:
    found = page_regions.compute_heat(parts(0.2, 0.4).parts)
    assert [level for _, level in found] == pytest.approx([0, 0.5, 1])
    assert [box[0] for box, _ in found] == pytest.approx([0, 1 / 2.25, 1.25 / 2.25])
    four = [level for _, level in page_regions.compute_heat(parts(0.2, 0.4, 0.3, 0.9).parts)]
    means = np.array([0.2, 0.3, 0.4, 0.25, 0.45, 0.65, 0.3, 0.6, 0.9])
    assert four == pytest.approx(list((means - 0.2) / 0.7))


def test_the_best_cell_lies_in_the_best_part() -> None:
    scores = np.random.default_rng(3).uniform(0.1, 0.4, 12)
    found = parts(*scores, columns=3)
    (hottest,) = [box for box, level in page_regions.compute_heat(found.parts) if level == 1]
    assert found.best == found.parts[scores.argmax()] and page_regions.covers(found.best.box, hottest)


def test_where_nothing_stands_out_nothing_is_drawn() -> None:
    level = parts(0.3, 0.302, 0.301, 0.3)
    assert level.best is None and {value for _, value in page_regions.compute_heat(level.parts)} == {0}
    html = page_regions.render_detail(opened(read=False, width=800, height=900), level)
    assert (
        "No part stands out" in html
        and "All parts score 0.300 to 0.302" in html
        and "<svg" not in html
        and "checkbox" not in html
    )


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 0.4, 0.3), "upper left"), ((0.6, 0.7, 1, 1), "lower right"), ((0.3, 0.3, 0.7, 0.7), "the middle"),
        ((0.3, 0, 0.7, 0.3), "upper middle"), ((0, 0.3, 0.3, 0.7), "middle left"), ((0, 0, 1, 0.1), "upper middle"),
    ],
)  # fmt: skip
def test_places_in_words(box: Box, words: str) -> None:
    assert page_regions.describe_place(box) == words


# Asking


@pytest.mark.parametrize("place", CORNERS)
def test_the_part_with_the_colour_asked_for_is_best(
    service: Service, double: Coloured, tmp_path: Path, place: str
) -> None:
    page = kept(service, tmp_path, cornered(place))
    calls = len(double.calls)
    found = page_regions.rank_parts_as_json(service, "red", page.id, at(service.library), None, None)
    assert [len(call) for call in double.calls[calls:]] == [len(found["tiles"])] == [12], "one call for all"
    across, down = CORNERS[place]
    box = best_box(found)
    assert (box[0] == 0, box[2] == 1) == (across == 0, across == 1)
    assert (box[1] == 0, box[3] == 1) == (down == 0, down == 1)
    scores = [tile["score"] for tile in found["tiles"]]
    # The others are white: the cosine of (1, 1, 1) with red.
    assert sorted(scores)[0] == pytest.approx(1 / np.sqrt(3), abs=0.01) and max(scores) > 0.7
    assert "An estimate" in found["note"] and "12 parts" in found["note"]
    assert 0 < found["timings"]["embed"] < found["timings"]["total"]


def test_fewer_numbers_are_compared_as_the_search_did(service: Service, tmp_path: Path) -> None:
    page = kept(service, tmp_path, cornered())
    scores = [
        tile["score"]
        for tile in page_regions.rank_parts_as_json(service, "red", page.id, at(service.library), None, 2)["tiles"]
    ]
    assert min(scores) == pytest.approx(1 / np.sqrt(2), abs=0.01), "white is (1, 1) by two numbers"
    with pytest.raises(BadValueError, match="2 or 3 dimensions"):
        page_regions.rank_parts_as_json(service, "red", page.id, at(service.library), None, 1)


@pytest.mark.parametrize(
    ("worker", "page", "calls"),
    [
        ({"max_pages_per_request": 5}, {}, [3, 3, 3, 3]),  # 12 and 6 are refused before anything is embedded
        ({}, {"max_pages_per_request": 8}, [8, 4]),
        ({"page_queue": 5}, {"page_queue": 5}, [5, 5, 2]),
    ],
)
def test_a_server_that_takes_less_at_once_is_asked_more_often(
    double: Coloured, tmp_path: Path, worker: dict[str, object], page: dict[str, object], calls: list[int]
) -> None:
    for service in served(double, tmp_path, make_settings(tmp_path, **page), **worker):
        stored = kept(service, tmp_path, cornered("lower right"))
        double.calls.clear()
        found = page_regions.rank_parts_as_json(service, "red", stored.id, at(service.library), None, None)
        assert [len(call) for call in double.calls] == calls
        assert len(found["tiles"]) == 12 and best_box(found)[2:] == (1, 1)


def test_vectors_of_another_model_are_refused(service: Service, double: Coloured, tmp_path: Path) -> None:
    page = kept(service, tmp_path, cornered())
    before = asked(service)
    double.fingerprint = "coloured-2"
    calls = len(double.calls)
    html = page_regions.show_parts(service, before, COLLECTION, "", page.id)
    assert "asked of another embedder (coloured-1, here coloured-2)" in html and 'class="sheet"' in html
    assert len(double.calls) == calls + 1, "who was known by its fingerprint is found out by its answer"
    service.targets.first.fetch_info()
    with pytest.raises(FingerprintError, match="made with another embedder"):
        page_regions.rank_parts_as_json(service, "red", page.id, at(service.library), None, None)
    assert len(double.calls) == calls + 1, "a worker was woken in vain"


def test_what_cannot_be_looked_at_is_told(service: Service, double: Coloured, tmp_path: Path) -> None:
    small = kept(service, tmp_path, picture((70, 60)))
    double.calls.clear()
    with pytest.raises(BadValueError, match="only 70 x 60 pixels: too few"):
        page_regions.rank_parts_as_json(service, "red", small.id, at(service.library), None, None)
    key = at(service.library)
    for page_id, collection in (("0" * 16, key), (small.id, ABSENT), ("", key)):
        with pytest.raises(NotFoundError, match="not in the collection"):
            page_regions.rank_parts_as_json(service, "red", page_id, collection, None, None)
    with pytest.raises(BadValueError, match="no server"):
        page_regions.rank_parts_as_json(service, "red", small.id, at(service.library), "none", None)
    assert double.calls == []


def test_only_a_page_that_nobody_read_has_the_button(service: Service, tmp_path: Path) -> None:
    layer = pdf([["a text layer, which is kept, but the server has not read the page"]])
    (page,) = run(service, upload(tmp_path, "a.pdf", layer)).added
    last = LastSearch(collection=at(service.library))
    assert f'data-where="{page.id}"' in page_regions.render_detail(open_page(service, last, page.id))
    assert "data-where" in page_regions.render_detail(opened(read=False, width=800, height=900))
    assert "data-where" not in page_regions.render_detail(opened(read=True, width=800, height=900))
    assert "data-where" not in page_regions.render_detail(opened(read=False, width=60, height=90))


def test_a_page_deleted_meanwhile_is_gone(service: Service, double: Coloured, tmp_path: Path) -> None:
    page = kept(service, tmp_path, cornered())
    before = asked(service)
    calls = len(double.calls)
    double.gate.clear()
    told: list[str] = []
    thread = threading.Thread(
        target=lambda: told.append(page_regions.show_parts(service, before, COLLECTION, "", page.id))
    )
    thread.start()
    until(lambda: len(double.calls) > calls)
    service.delete_pages(at(service.library), [page.id])
    double.gate.set()
    thread.join(20)
    assert "This page is gone" in told[0] and "sheet" not in told[0]
    assert page_regions.show_parts(service, before, COLLECTION, "", page.id) == told[0]
    assert page_regions.show_parts(service, LastSearch(), COLLECTION, "", page.id) == told[0]


def test_a_server_that_does_not_answer_leaves_the_page_and_the_button(service: Service, tmp_path: Path) -> None:
    page = kept(service, tmp_path, cornered())
    before = asked(service)
    service.targets.first.client.url = "http://127.0.0.1:9"
    html = page_regions.show_parts(service, before, COLLECTION, "", page.id)
    assert 'role="alert"><b>The parts were not ranked</b><p>nothing answers' in html
    assert f'data-where="{page.id}"' in html and f"/pages/{page.id}.jpg" in html


def test_a_page_in_place_of_a_question(service: Service, tmp_path: Path) -> None:
    red = kept(service, tmp_path, Image.new("RGB", (300, 300), "red"), NASTY)
    page = kept(service, tmp_path, cornered("lower left"), "b.png")
    found = service.search(Question(like=red.id), at(service.library), 5)
    known = tuple(found.hits), found.query.tobytes(), found.fingerprint
    before = LastSearch(Question(like=red.id), *known, collection=at(service.library))
    html = page_regions.show_parts(service, before, COLLECTION, "", page.id)
    assert "Best part: lower left" in html and "<img src=x" not in html
    assert "Compared with “&lt;img" in html and html.count('class="best"') == 1
    service.delete_pages(at(service.library), [red.id])
    assert "Best part: lower left" in page_regions.show_parts(service, before, COLLECTION, "", page.id)
