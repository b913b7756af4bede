"""Embedders for tests, on this machine's CPU."""

from __future__ import annotations

from pathlib import Path

from serving.embedders.bigemma3.huggingface import BiGemma3Embedder
from serving.settings import Settings


def make_embedder(weights: Path) -> BiGemma3Embedder:
    return BiGemma3Embedder(Settings(weights=str(weights), device="cpu"))
