"""The promises that matter most, again with the real embedder: OCR and e5, restored by real criu and real forks."""

from __future__ import annotations

import base64
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from tests.support import criu
from tests.support.engines import EngineProcess, kind, vector
from tests.support.repository import SAMPLES

INVOICE = base64.b64encode((SAMPLES / "invoice-aurora-lamps.jpg").read_bytes()).decode()


def builtin(data: Path, snapshot: str, *more: str, **environment: str) -> EngineProcess:
    return EngineProcess(data, snapshot, *more, embedder="builtin", **environment)


def page(engine: EngineProcess) -> dict[str, Any]:
    body = {"images": [INVOICE], "texts": ["total due"], "explain": True}
    answer = requests.post(engine.wait() + "/embed", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a worker that was started in full answers."""
    with builtin(tmp_path_factory.mktemp("plain"), "plain") as engine:
        found = page(engine)
        assert kind(engine.ask()) == "plain"
        return found


def test_created_then_restored_with_equal_vectors_and_words(tmp_path: Path, backend: str, expected: Any) -> None:
    with builtin(tmp_path, backend, "--scaledown-window", "2") as engine:
        boots, kinds = [], []
        for _ in range(3):
            found = page(engine)
            assert found["embeddings"] == expected["embeddings"], "bit for bit"
            assert found["pages"] == expected["pages"]
            answer = engine.ask()
            boots.append(answer.headers["X-Boot-Id"])
            kinds.append(kind(answer))
            engine.until(lambda told: told["state"] == "zero")
        assert kinds == ["created", "restored", "restored"] and len(set(boots)) == 3
        assert engine.status()["failures"] == {}


@pytest.mark.long
@pytest.mark.soak
def test_a_hundred_first_requests_and_pages_among_them(tmp_path: Path, backend: str, expected: Any) -> None:
    with builtin(tmp_path, backend) as engine:
        engine.ask()
        engine.to_zero()
        with ThreadPoolExecutor(100) as pool:
            asking = [pool.submit(engine.ask, "total due") for _ in range(96)]
            reading = [pool.submit(page, engine) for _ in range(4)]
            answers = [future.result() for future in asking]
            pages = [future.result() for future in reading]
        # Asked in batches of up to sixteen, whose sums are rounded in another order.
        for answer in answers:
            np.testing.assert_allclose(vector(answer), expected["embeddings"][1], atol=1e-6)
        for found in pages:
            np.testing.assert_allclose(found["embeddings"], expected["embeddings"], atol=1e-6)
        assert {kind(answer) for answer in answers} == {"restored"}
        assert len({answer.headers["X-Boot-Id"] for answer in answers}) == 1


@pytest.mark.soak
def test_worker_killed_while_it_reads(tmp_path: Path, backend: str, expected: Any) -> None:
    with builtin(tmp_path, backend) as engine:
        page(engine)
        body = {"images": [INVOICE] * 8}
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(requests.post, engine.wait() + "/embed", json=body, timeout=60)
            engine.until(lambda told: told["in_flight"] == 1)
            time.sleep(0.5)
            engine.worker().kill()
            assert reading.result().status_code == 503
        assert page(engine)["embeddings"] == expected["embeddings"]
        assert kind(engine.ask()) == "restored"


@pytest.mark.soak
def test_engine_killed_while_it_reads(tmp_path: Path, backend: str, expected: Any) -> None:
    engine = builtin(tmp_path, backend)
    page(engine)
    body = {"images": [INVOICE] * 8}

    def read() -> None:
        with pytest.raises(requests.RequestException):
            requests.post(engine.wait() + "/embed", json=body, timeout=60)

    reading = threading.Thread(target=read)
    reading.start()
    engine.until(lambda told: told["in_flight"] == 1)
    time.sleep(0.3)
    family = engine.family()
    engine.kill()
    assert not psutil.wait_procs(family, timeout=10)[1], "nothing is left running"
    engine.stop()
    reading.join()
    with builtin(tmp_path, backend) as again:
        assert page(again)["embeddings"] == expected["embeddings"]
        assert kind(again.ask()) == ("created" if backend == "fork" else "restored")


@pytest.mark.soak
def test_damaged_snapshot_of_the_real_model(tmp_path: Path, expected: Any) -> None:
    criu.need()
    with builtin(tmp_path, "criu") as engine:
        page(engine)
    (folder,) = (tmp_path / "snapshots").iterdir()
    path = max((folder / "files").iterdir(), key=lambda file: file.stat().st_size)
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 3)
        stream.write(os.urandom(64))
    with builtin(tmp_path, "criu") as engine:
        assert page(engine)["embeddings"] == expected["embeddings"]
        assert kind(engine.ask()) == "created"


@pytest.mark.soak
def test_snapshot_is_not_larger_than_it_must_be(tmp_path: Path) -> None:
    """At most one and a half times the worker's anonymous memory, and nothing of it is held at zero."""
    criu.need()
    with builtin(tmp_path, "criu") as engine:
        page(engine)
        engine.to_zero()
        engine.ask()
        anonymous = engine.worker().memory_full_info().uss
        saved = engine.status()["snapshot"]["bytes"]
        assert saved <= 1.5 * anonymous, f"{saved / 1e6:.0f} MB of {anonymous / 1e6:.0f} MB"
        engine.to_zero()
        assert engine.family() == []


@pytest.mark.long
@pytest.mark.soak
def test_many_restores_in_a_row(tmp_path: Path, backend: str, expected: Any) -> None:
    """Unfixed fork children hung three times of three: native thread pools of the template."""
    with builtin(tmp_path, backend) as engine:
        engine.ask()
        for number in range(12):
            engine.to_zero()
            answer = engine.ask()
            assert vector(answer) == expected["embeddings"][1] and kind(answer) == "restored"
            if number % 4 == 0:
                assert np.array_equal(page(engine)["embeddings"], expected["embeddings"])
        assert engine.status()["failures"] == {}
