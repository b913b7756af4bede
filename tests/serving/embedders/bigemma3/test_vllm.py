"""What BiGemma3 by vLLM is where vLLM is not: known by name, and a clear word when it is wanted. See tests/vllm."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from bench.speed.random_weights import build_checkpoint
from serving.documents.page import Page
from serving.embedders.bigemma3.vllm import VllmEmbedder
from serving.embedders.bigemma3.vllm_engine import EngineMissingError
from serving.embedders.gpu.weight_arena import WeightsError
from serving.errors import UnreadableError
from tests.support.servers import make_settings


@pytest.fixture
def embedder(tmp_path: Path) -> VllmEmbedder:
    return VllmEmbedder(make_settings(tmp_path, weights=str(build_checkpoint(tmp_path / "weights")), device="cpu"))


def test_it_is_known_without_being_loaded(embedder: VllmEmbedder) -> None:
    assert embedder.name == "bigemma3" and embedder.dimensions == (768, 1536, 2560)
    assert embedder.backends == () and not embedder.reads_text


def test_its_fingerprint_is_its_own(tmp_path: Path, embedder: VllmEmbedder) -> None:
    weights = tmp_path / "weights"
    assert VllmEmbedder(make_settings(tmp_path, weights=str(weights), device="cpu")).fingerprint == embedder.fingerprint
    other = build_checkpoint(tmp_path / "other", seed=1)
    prints = {
        VllmEmbedder(make_settings(tmp_path, weights=str(folder), device=device)).fingerprint
        for folder in (weights, other)
        for device in ("cpu", "cuda")
    }
    assert len(prints) == 4 and all(found.startswith("bigemma3-vllm-") and len(found) == 30 for found in prints)


def test_pages_are_made_square_beforehand(embedder: VllmEmbedder) -> None:
    page = embedder.prepare(Page(Image.new("RGB", (620, 877))))
    assert page.image is not None and page.image.size == (224, 224)
    assert embedder.prepare(Page(None)).image is None
    with pytest.raises(UnreadableError):
        embedder.embed_pages([Page(None)])


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        VllmEmbedder(make_settings(tmp_path, weights=str(tmp_path / "nowhere"), device="cpu"))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_it_says_how_to_get_it(embedder: VllmEmbedder) -> None:
    with pytest.raises(EngineMissingError, match=r"pip install 'dormouse-search\[vllm\]'"):
        embedder.load()
