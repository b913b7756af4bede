"""BiGemma3 under the local engine, on a CPU with a tiny checkpoint: started in full, and back from each snapshot."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import requests

from bench.speed.random_weights import build_checkpoint
from serving.http.child_server import ProcessFailed
from tests.support import criu
from tests.support.engines import EngineProcess, kind
from tests.support.hubs import MODEL, Hub
from tests.support.repository import SAMPLES

INVOICE = base64.b64encode((SAMPLES / "invoice-aurora-lamps.jpg").read_bytes()).decode()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("weights"))


def bigemma3(data: Path, weights: Path | str, snapshot: str, **environment: str) -> EngineProcess:
    words = ["--weights", str(weights), "--device", "cpu"]
    return EngineProcess(data, snapshot, *words, embedder="bigemma3", **environment)


def vectors(engine: EngineProcess) -> list[Any]:
    body = {"images": [INVOICE], "texts": ["total due"], "model": "bigemma3"}
    answer = requests.post(engine.wait() + "/embed", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["embeddings"]
    return found


@pytest.fixture(scope="module")
def expected(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    with bigemma3(tmp_path_factory.mktemp("plain"), weights, "plain") as engine:
        about = requests.get(engine.wait(), timeout=10).json()
        assert about["model"] == "bigemma3" and about["dimension"] == 2560 and about["dimensions"] == [768, 1536, 2560]
        found = vectors(engine)
        assert kind(engine.ask()) == "plain"
        return found


@pytest.fixture(scope="module")
def hub_files(weights: Path) -> Path:
    """What the hub has is a checkpoint that can be loaded."""
    return weights


@pytest.mark.soak
def test_created_then_restored_with_equal_vectors(tmp_path: Path, weights: Path, expected: list[Any]) -> None:
    criu.need()
    with bigemma3(tmp_path, weights, "criu") as engine:
        kinds = []
        for _ in range(3):
            assert vectors(engine) == expected, "bit for bit"
            kinds.append(kind(engine.ask()))
            engine.to_zero()
        assert kinds == ["created", "restored", "restored"]
        assert engine.status()["failures"] == {}


@pytest.mark.soak
def test_a_token_of_the_hub_downloads_the_weights_and_is_in_no_snapshot(tmp_path: Path, hub: Hub) -> None:
    criu.need()
    token = "hf_plantedInTheTests"
    given = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0", "HF_TOKEN": token}
    with bigemma3(tmp_path, MODEL, "criu", **given) as engine:
        assert kind(engine.ask(timeout=120)) == "created"
    assert f"Bearer {token}" in hub.tokens
    images = list((tmp_path / "snapshots").glob("*/files/*"))
    assert images and not [path.name for path in images if token.encode() in path.read_bytes()]


def test_fork_is_refused_with_the_reason(tmp_path: Path, weights: Path) -> None:
    with bigemma3(tmp_path, weights, "fork") as engine, pytest.raises(ProcessFailed, match="cannot save the processes"):
        engine.wait()


@pytest.mark.soak
def test_without_a_gpu_the_first_request_is_told_what_to_do(tmp_path: Path, weights: Path) -> None:
    with EngineProcess(tmp_path, "plain", "--weights", str(weights), embedder="bigemma3") as engine:
        answer = engine.ask(timeout=120)
        assert answer.status_code == 503 and "no NVIDIA GPU" in answer.json()["error"]["message"]


def test_weights_that_are_none_are_told_at_once(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, "plain", "--weights", str(tmp_path), embedder="bigemma3")
    with engine, pytest.raises(ProcessFailed, match=r"has no config\.json"):
        engine.wait()
