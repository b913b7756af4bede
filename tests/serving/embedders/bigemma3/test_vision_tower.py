"""The vision tower against transformers' own modules, small and with random weights, on a CPU."""

from __future__ import annotations

import pytest
import torch

from serving.embedders.bigemma3.colpali_import import block_unused_imports
from serving.embedders.bigemma3.vision_tower import VisionTower, join_tensors


def build_tower(activation: str = "gelu_pytorch_tanh") -> torch.nn.Module:
    block_unused_imports()
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=7,
        hidden_act=activation, vision_use_head=False,
    )  # fmt: skip
    torch.manual_seed(5)
    return SiglipVisionModel(config).eval()


@torch.inference_mode()
def test_states_are_those_of_the_modules() -> None:
    tower = build_tower()
    pixels = torch.randint(0, 256, (2, 28, 28, 3), dtype=torch.uint8)
    expected = tower(pixel_values=(pixels.float() / 255 - 0.5).div(0.5).permute(0, 3, 1, 2)).last_hidden_state
    found = VisionTower(tower)(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(VisionTower(tower)(pixels[:1]), found[:1], atol=1e-5, rtol=1e-4)


def test_another_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="has the activation relu"):
        VisionTower(build_tower("relu"))


def test_tensors_that_follow_each_other_are_joined_without_a_copy() -> None:
    whole = torch.arange(24.0).view(6, 4)
    parts = list(whole.split(2))
    assert join_tensors(parts).data_ptr() == whole.data_ptr() and torch.equal(join_tensors(parts), whole)
    turned = join_tensors(parts[::-1])
    assert turned.data_ptr() != parts[-1].data_ptr() and torch.equal(turned, torch.cat(parts[::-1]))
