"""Random checkpoints: names by layout, shards with an index, values that tell pages apart. Read: test_checkpoint.py."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.speed import random_weights
from bench.speed.random_weights import LAYOUTS, build_checkpoint, scale_tensor


def read_names(file: Path) -> set[str]:
    """Return the names of the tensors in a safetensors file."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return set(json.loads(content[8 : 8 + length])) - {"__metadata__"}


@pytest.fixture
def tensors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Small tensors instead of a model's, with a part of each name."""
    names = ["language_model.norm.weight", "multi_modal_projector.mm_input_projection_weight", "vision_tower.x.bias"]
    drawn = [(name, torch.full((4,), float(place), dtype=torch.bfloat16)) for place, name in enumerate(names)]
    monkeypatch.setattr(random_weights, "draw_tensors", lambda *_: iter(drawn))
    return names


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_part_gets_the_prefix_of_its_layout(layout: str, tensors: list[str], tmp_path: Path) -> None:
    random_weights.write_tensors(tmp_path, None, layout, 0, "cpu")
    language, vision, projector = LAYOUTS[layout]
    expected = {f"{language}norm.weight", f"{projector}mm_input_projection_weight", f"{vision}x.bias"}
    assert read_names(tmp_path / "model.safetensors") == expected


def test_a_parameter_of_no_known_part_is_named() -> None:
    with pytest.raises(ValueError, match="is a parameter of no known part"):
        random_weights.rename_tensor("audio_tower.x", "flat")


def test_large_ones_are_in_several_files_with_an_index(
    tensors: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_weights, "SHARD_BYTES", 16)
    random_weights.write_tensors(tmp_path, None, "flat", 0, "cpu")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert index["metadata"]["total_size"] == 3 * 8 and list(index["weight_map"]) == tensors
    assert list(index["weight_map"].values()) == [files[0], files[0], files[1]]
    for name, file in index["weight_map"].items():
        assert name in read_names(tmp_path / file)


def draw(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_patch_filters_ignore_an_even_background() -> None:
    filters = scale_tensor("vision_tower.embeddings.patch_embedding.weight", draw(8, 3, 14, 14))
    assert filters.mean(dim=(1, 2, 3)).abs().max() < 1e-6
    assert filters[0].square().sum() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(
    ("name", "shape", "mean", "deviation"),
    [
        ("vision_tower.embeddings.position_embedding.weight", (64, 64), 0, 0.1),
        ("language_model.embed_tokens.weight", (64, 64), 0, 0.02),
        ("multi_modal_projector.mm_input_projection_weight", (100, 64), 0, 0.1),
        ("language_model.layers.0.mlp.up_proj.weight", (64, 100), 0, 0.1),
        ("language_model.layers.0.self_attn.q_norm.weight", (4096,), 0.25, 0.05),
        ("vision_tower.encoder.layers.0.layer_norm1.weight", (4096,), 1, 0.05),
        ("vision_tower.encoder.layers.0.layer_norm1.bias", (4096,), 0, 0.05),
        ("language_model.layers.0.input_layernorm.weight", (4096,), 0, 0.05),
    ],
)
def test_values_have_the_scale_of_their_part(name: str, shape: tuple[int, ...], mean: float, deviation: float) -> None:
    values = scale_tensor(name, draw(*shape))
    assert values.shape == shape
    assert float(values.mean()) == pytest.approx(mean, abs=0.01)
    assert float(values.std()) == pytest.approx(deviation, rel=0.05)


def test_the_same_seed_draws_the_same_checkpoint(tmp_path: Path) -> None:
    one, other = (build_checkpoint(tmp_path / name) for name in ("a", "b"))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    config = json.loads((one / "config.json").read_text())
    layers = config["text_config"]["layer_types"]
    assert layers == ["sliding_attention", "full_attention"] and config["architectures"]
