from __future__ import annotations

from pathlib import Path

import pytest

from bench.speed.random_weights import build_checkpoint
from serving.embedders.bigemma3.huggingface import BiGemma3Embedder
from tests.support.embedders import make_embedder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def embedder(weights: Path) -> BiGemma3Embedder:
    found = make_embedder(weights)
    found.load()
    return found
