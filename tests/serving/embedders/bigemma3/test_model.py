"""Weights of every layout, and checkpoints that are refused, on a tiny model."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.speed.random_weights import LAYOUTS, build_checkpoint
from serving.embedders.bigemma3 import colpali_import
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.embedders.bigemma3.huggingface import BiGemma3Embedder
from serving.embedders.gpu.weight_arena import WeightsError, fill_weights
from tests.support.embedders import make_embedder
from tests.support.host_memory import HostLane


def test_every_layout_of_names_loads_whole(weights: Path, embedder: BiGemma3Embedder, tmp_path: Path) -> None:
    expected = embedder.probe()
    for layout in LAYOUTS:
        found = make_embedder(build_checkpoint(tmp_path / layout, layout=layout))
        found.load()
        assert np.array_equal(found.probe(), expected), layout


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_weights_in_one_range_are_those_that_transformers_loads(tmp_path: Path, layout: str) -> None:
    """What a GPU's worker does instead of `from_pretrained`, here in this machine's memory."""
    import torch

    from serving.embedders.bigemma3 import model as bigemma3_model
    from serving.embedders.bigemma3.vision_tower import join_tensors

    checkpoint = Checkpoint.read(build_checkpoint(tmp_path, layout=layout))
    reference = colpali_import.import_bigemma3().BiGemma3.from_pretrained(
        checkpoint.path, dtype=torch.bfloat16, key_mapping=bigemma3_model.KEY_MAPPING, local_files_only=True,
        attn_implementation="sdpa",
    )  # fmt: skip
    planned = bigemma3_model.plan_tensors(checkpoint)
    memory = torch.zeros(planned.size, dtype=torch.uint8)
    model = bigemma3_model.build_model_in_memory(checkpoint, planned, memory)
    fill_weights(planned, partial(HostLane, memoryview(memory.numpy())), planned.split_chunks(), 2)
    assert checkpoint.stored_as == {"BF16"}
    for ours, theirs in (
        (dict(model.named_parameters()), dict(reference.named_parameters())),
        (dict(model.named_buffers()), dict(reference.named_buffers())),
    ):
        assert ours.keys() == theirs.keys()
        for name, values in theirs.items():
            assert ours[name].dtype == values.dtype and torch.equal(ours[name], values), name
    own = model.vision_tower.encoder.layers[0].self_attn
    parts = [own.q_proj.weight, own.k_proj.weight, own.v_proj.weight]
    one = join_tensors(parts)
    assert one.data_ptr() == parts[0].data_ptr() and torch.equal(one, torch.cat(parts))
    assert join_tensors(parts[::-1]).data_ptr() != parts[-1].data_ptr()


def test_without_the_mapping_a_layout_would_be_random_and_is_refused(weights: Path) -> None:
    """Why the mapping is ours: transformers only warns, and the vectors have length one."""
    from serving.embedders.bigemma3 import model as bigemma3_model

    checkpoint = Checkpoint.read(weights)
    _, info = colpali_import.import_bigemma3().BiGemma3.from_pretrained(
        weights, key_mapping={}, output_loading_info=True, local_files_only=True
    )
    assert info["missing_keys"] and info["unexpected_keys"]
    with pytest.raises(WeightsError, match=r"lacks .* tensors, such as language_model"):
        bigemma3_model.check_loading_info(info, checkpoint)


def changed(weights: Path, out: Path, change: Any) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(weights, out)
    tensors = load_file(out / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_a_missing_or_unknown_tensor_is_refused(weights: Path, tmp_path: Path) -> None:
    norm = "language_model.model.layers.1.mlp.up_proj.weight"
    lacking = make_embedder(changed(weights, tmp_path / "a", lambda tensors: tensors.pop(norm)))
    with pytest.raises(WeightsError, match=r"lacks 1 .* such as language_model\.layers\.1\.mlp\.up_proj\.weight"):
        lacking.load()
    more = changed(weights, tmp_path / "b", lambda tensors: tensors.update(custom_head=tensors[norm].clone()))
    with pytest.raises(WeightsError, match=r"unknown tensors 1 .* such as custom_head"):
        make_embedder(more).load()


def test_a_saved_output_layer_is_left_aside(weights: Path, embedder: BiGemma3Embedder, tmp_path: Path) -> None:
    def add_head(tensors: dict[str, Any]) -> None:
        tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"].clone()

    found = make_embedder(changed(weights, tmp_path / "a", add_head))
    found.load()
    assert np.array_equal(found.probe(), embedder.probe())


def test_another_chat_template_is_refused(weights: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(weights, tmp_path / "a")
    for name in ("tokenizer_config.json", "chat_template.json"):
        content = json.loads((folder / name).read_text())
        content["chat_template"] = content["chat_template"].replace("<start_of_turn>", "<turn>")
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="another chat template"):
        make_embedder(folder).load()


def test_another_way_to_prepare_images_is_refused(weights: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(weights, tmp_path / "a")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_mean": [0.48, 0.46, 0.41]}))
    with pytest.raises(WeightsError, match="prepares images in another way"):
        make_embedder(folder).load()
