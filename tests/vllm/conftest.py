"""One vLLM server, one HuggingFace server and one reference for all tests, with the same small random weights."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import requests

from bench.speed.random_weights import build_checkpoint
from serving.embedders.base import Vectors
from tests.support.engines import EngineProcess
from tests.support.reference import Reference
from tests.vllm.pictures import Picture, pictures

START_S = 240
"""The longest a test waits for vLLM to come up: 35 s on two quiet cores."""


class Served:
    """A server of BiGemma3 and what tests ask of it."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine

    @property
    def url(self) -> str:
        return self.engine.wait()

    def post(self, path: str, body: object, timeout: float = START_S) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=timeout)

    def embed(self, texts: Sequence[str] = (), images: Sequence[bytes] = (), **more: object) -> Vectors:
        """float32[images and texts, dimension], by `POST /embed`."""
        body = {"texts": list(texts), "images": [base64.b64encode(image).decode() for image in images], **more}
        response = self.post("/embed", body)
        assert response.status_code == 200, response.text
        return np.asarray(response.json()["embeddings"], np.float32)

    def embeddings(self, **body: object) -> Vectors:
        """float32[n, dimension], by `POST /v1/embeddings`."""
        response = self.post("/v1/embeddings", {"model": "bigemma3", **body})
        assert response.status_code == 200, response.text
        return np.asarray([row["embedding"] for row in response.json()["data"]], np.float32)


def cosines(some: Vectors, others: Vectors) -> Vectors:
    """float32[n], row by row."""
    norms = np.linalg.norm(some, axis=-1) * np.linalg.norm(others, axis=-1)
    return np.asarray((some * others).sum(axis=-1) / norms, np.float32)


def nearest(vectors: Vectors) -> float:
    """The cosine of the two rows that are most alike."""
    found = vectors @ vectors.T
    return float(found[~np.eye(len(vectors), dtype=bool)].max())


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("weights"))


def served(embedder: str, weights: Path, data: Path) -> EngineProcess:
    options = ["--weights", str(weights), "--device", "cpu", "--scaledown-window", "3600"]
    return EngineProcess(data, "plain", *options, embedder=embedder)


@pytest.fixture(scope="session")
def both(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """vLLM's and HuggingFace's; they come up beside each other."""
    with (
        served("vllm", weights, tmp_path_factory.mktemp("vllm")) as one,
        served("bigemma3", weights, tmp_path_factory.mktemp("hf")) as other,
    ):
        for engine in (one, other):
            requests.post(engine.wait() + "/wake_up", headers=engine.admin, timeout=START_S)
        yield Served(one), Served(other)


@pytest.fixture(scope="session")
def vllm(both: tuple[Served, Served]) -> Served:
    return both[0]


@pytest.fixture(scope="session")
def hf(both: tuple[Served, Served]) -> Served:
    return both[1]


@pytest.fixture(scope="session")
def reference(weights: Path, both: tuple[Served, Served]) -> Reference:
    """Asks for the servers first: they start while this process imports torch."""
    return Reference(weights)


@pytest.fixture(scope="session")
def pages() -> list[Picture]:
    return pictures()
