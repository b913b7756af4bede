from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving.embedders.base import Lanes, PageResult
from serving.errors import BadVectorError, NotReadyError
from serving.http.schema import Query
from serving.worker.worker import Worker, check_vectors, cut_line_vectors
from tests.support.scripted import Scripted, unit
from tests.support.servers import ScriptedWorker, make_settings, running
from tests.support.waiting import until
from tests.support.worker_requests import error_of, post


def test_matryoshka_is_cut_and_normalised_again(scripted: ScriptedWorker) -> None:
    for size in (768, 1536, 2560):
        vector = np.asarray(post(scripted.url, {"texts": ["a"], "dimensions": size}).json()["embeddings"][0])
        assert vector.shape == (size,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    raw = np.asarray(
        post(scripted.url, {"texts": ["a"], "dimensions": 768, "normalize": False}).json()["embeddings"][0]
    )
    np.testing.assert_allclose(raw, unit("a", 2560)[:768], atol=1e-6)


def test_nan_never_leaves(scripted: ScriptedWorker) -> None:
    for body, path in (({"texts": ["a", "not a number"]}, "/embed"), ({"input": "not a number"}, "/v1/embeddings")):
        response = post(scripted.url, body, path)
        assert error_of(response, 500)["code"] == "bad_vector" and "NaN" not in response.text


def test_full_queue_is_429_with_a_time(tmp_path: Path) -> None:
    embedder = Scripted(lanes=Lanes(page_batch=1, page_workers=1, query_batch=1))
    embedder.gate.clear()
    with running(embedder, make_settings(tmp_path, query_queue=3)) as (url, _), ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(post, url, {"texts": ["a"]}) for _ in range(8)]
        time.sleep(0.5)
        embedder.gate.set()
        codes = sorted(answer.result().status_code for answer in answers)
        refused = [answer.result() for answer in answers if answer.result().status_code == 429]
    assert codes.count(200) >= 3 and refused
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert error_of(refused[0], 429)["type"] == "rate_limit_error"


def test_late_request_is_503_and_the_worker_lives(tmp_path: Path) -> None:
    embedder = Scripted()
    embedder.gate.clear()
    with running(embedder, make_settings(tmp_path, request_timeout_s=0.3)) as (url, _):
        late = post(url, {"texts": ["a"]})
        assert error_of(late, 503)["code"] == "timeout" and "Retry-After" in late.headers
        embedder.gate.set()
        assert post(url, {"texts": ["b"]}).status_code == 200


def test_one_request_that_fails_leaves_its_batch_mates(scripted: ScriptedWorker) -> None:
    scripted.embedder.gate.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(post, scripted.url, {"texts": ["first"]})
        until(lambda: bool(scripted.embedder.calls))
        rest = [pool.submit(post, scripted.url, {"texts": [text]}) for text in ("a", "unreadable", "b")]
        until(lambda: scripted.worker.queries.depth == 3)
        scripted.embedder.gate.set()
        assert first.result().status_code == 200
        assert [answer.result().status_code for answer in rest] == [200, 422, 200]
    assert any(len(call) == 3 for call in scripted.embedder.calls)


@pytest.mark.parametrize(
    "vectors", [[[0.0, 0.0]], [[float("nan"), 1.0]], [[float("inf"), 1.0]], [[1.0, 0.0], [0.0, 0.0]]]
)
def test_a_vector_without_direction_is_an_error(vectors: list[list[float]]) -> None:
    with pytest.raises(BadVectorError):
        check_vectors(np.asarray(vectors, np.float32), None, normalize=True)


def test_vectors_are_cut_before_they_are_normalised() -> None:
    given = np.asarray([[3, 4, 12]], np.float32)
    np.testing.assert_allclose(check_vectors(given, 2, normalize=True), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(check_vectors(given, 2, normalize=False), [[3, 4]])
    assert check_vectors(given, None, normalize=True).flags["C_CONTIGUOUS"]


def test_a_line_of_zeros_stays_one_and_others_are_normalised() -> None:
    page = PageResult(np.ones(3, np.float32), (), np.asarray([[3, 4, 9], [0, 0, 0]], np.float32))
    found = cut_line_vectors(page, 2).line_vectors
    assert found is not None
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert cut_line_vectors(PageResult(np.ones(3, np.float32)), 2).line_vectors is None
    with pytest.raises(BadVectorError, match="line"):
        cut_line_vectors(PageResult(np.ones(1, np.float32), (), np.asarray([[np.nan]], np.float32)), None)


def test_it_sleeps_after_the_work_that_was_started_and_wakes_once(tmp_path: Path) -> None:
    async def test() -> None:
        embedder = Scripted()
        worker = Worker(embedder, make_settings(tmp_path))
        with pytest.raises(NotReadyError):
            await worker.embed([Query("a")])
        await worker.open()
        worker.start()
        embedder.gate.clear()
        asking = asyncio.create_task(worker.embed([Query("a")]))
        while not embedder.calls:
            await asyncio.sleep(0.005)
        sleeping = asyncio.create_task(worker.sleep())
        await asyncio.sleep(0.05)
        assert not worker.ready and embedder.loaded, "what it has is finished first"
        with pytest.raises(NotReadyError, match="sleeps"):
            await worker.embed([Query("b")])
        embedder.gate.set()
        assert (await asking).vectors.shape == (1, 2560)
        await sleeping
        assert not embedder.loaded
        await asyncio.gather(worker.wake(), worker.wake())
        assert worker.ready and worker.boot.phases["wake"] >= 0
        first = worker.boot.id
        worker.start_boot(make_settings(tmp_path, page_queue=3), "restored", "disk")
        assert worker.boot.id != first and worker.boot.requests == 0 and worker.pages.queue() == 3
        await worker.close()

    asyncio.run(test())
