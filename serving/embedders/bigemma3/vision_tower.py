"""Runs SigLIP's vision tower with fewer and larger kernels than its own modules.

The weights stay those of the modules; `tests/serving/embedders/bigemma3/test_huggingface.py` holds the result against
the modules' own. Faster on an H200 (docs/design/gpu.md): query, key and value in one product; GELU within the product
before it; attention by cuDNN instead of FlashAttention 2; sums and norms in one kernel; patches by a product instead of
a convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

PREFERRED = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class VisionTower:
    """Turns pixels uint8[n, side, side, 3] into states bfloat16 or float32[n, patches, hidden]."""

    def __init__(self, tower: Any) -> None:
        """Take the weights of `tower`, transformers' SiglipVisionModel. Raises ValueError for another activation."""
        core = getattr(tower, "vision_model", tower)
        config = core.config
        if config.hidden_act != "gelu_pytorch_tanh":
            raise ValueError(f"the vision tower has the activation {config.hidden_act}, gelu_pytorch_tanh is built in")
        self.heads = config.num_attention_heads
        self.eps = config.layer_norm_eps
        self.patch = config.patch_size
        convolution = core.embeddings.patch_embedding
        self.patches = (convolution.weight.flatten(1), convolution.bias)
        self.positions = core.embeddings.position_embedding.weight
        self.layers = [EncoderLayer(layer) for layer in core.encoder.layers]
        # Each norm goes with the sum before it: the first has none, the last one follows the last layer.
        self.norms = [norm for layer in core.encoder.layers for norm in (layer.layer_norm1, layer.layer_norm2)]
        self.norms.append(core.post_layernorm)

    def __call__(self, pixels: Tensor) -> Tensor:
        n, side, _, _ = pixels.shape
        grid, patch = side // self.patch, self.patch
        weight, bias = self.patches
        # As the processor does it: scaled to 0..1, then mean and deviation 0.5, in float32.
        values = pixels.float().mul_(1 / 255).sub_(0.5).div_(0.5).to(weight.dtype)
        cut = values.view(n, grid, patch, grid, patch, 3).permute(0, 1, 3, 5, 2, 4)
        hidden = functional.linear(cut.reshape(n, grid * grid, 3 * patch * patch), weight, bias).add_(self.positions)
        sum_and_norm: Callable[..., Tensor] = plain_add_norm
        if hidden.is_cuda:
            from serving.embedders.bigemma3.fused_norm import add_norm as sum_and_norm
        norms = iter(self.norms)
        first = next(norms)
        normed = functional.layer_norm(hidden, hidden.shape[-1:], first.weight, first.bias, self.eps)
        with prefer_attention_kernels(hidden):
            for layer in self.layers:
                for part in (layer.attend, layer.feed_forward):
                    norm = next(norms)
                    normed = sum_and_norm(hidden, part(normed, self.heads), norm.weight, norm.bias, self.eps)
        return normed


def plain_add_norm(hidden: Tensor, delta: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Add `delta` to `hidden` in place and return its layer norm."""
    return functional.layer_norm(hidden.add_(delta), hidden.shape[-1:], weight, bias, eps)


@contextmanager
def prefer_attention_kernels(states: Tensor) -> Iterator[None]:
    """Choose the attention kernels on a GPU, in the order of PREFERRED.

    The choice holds for the whole process meanwhile; only one thread at a time captures a graph.
    """
    if states.is_cuda:
        with sdpa_kernel(PREFERRED, set_priority=True):
            yield
    else:
        yield


class EncoderLayer:
    """One layer in two halves, `attend` and `feed_forward`, each between two norms."""

    def __init__(self, layer: Any) -> None:
        own = layer.self_attn
        parts = (own.q_proj, own.k_proj, own.v_proj)
        self.qkv = (join_tensors([part.weight for part in parts]), join_tensors([part.bias for part in parts]))
        self.out = own.out_proj
        self.up, self.down = layer.mlp.fc1, layer.mlp.fc2
        # The three are views of one now, so that the weights are there once.
        for part, weight, bias in zip(parts, self.qkv[0].chunk(3), self.qkv[1].chunk(3), strict=True):
            part.weight.data, part.bias.data = weight, bias

    def attend(self, normed: Tensor, heads: int) -> Tensor:
        n, length, width = normed.shape
        mixed = functional.linear(normed, *self.qkv).view(n, length, 3, heads, width // heads)
        query, key, value = (mixed[:, :, part].transpose(1, 2) for part in range(3))
        seen = functional.scaled_dot_product_attention(query, key, value)
        return functional.linear(seen.transpose(1, 2).reshape(n, length, width), self.out.weight, self.out.bias)

    def feed_forward(self, normed: Tensor, _: int) -> Tensor:
        if normed.is_cuda:  # cuBLASLt's epilogue: the tanh form, on a GPU only
            flat = normed.view(-1, normed.shape[-1])
            wide = torch._addmm_activation(self.up.bias, flat, self.up.weight.t(), use_gelu=True)
            wide = wide.view(*normed.shape[:-1], -1)
        else:
            wide = functional.gelu(functional.linear(normed, self.up.weight, self.up.bias), approximate="tanh")
        return functional.linear(wide, self.down.weight, self.down.bias)


def join_tensors(parts: list[Tensor]) -> Tensor:
    """Return the tensors as one along their first dimension, without a copy if they follow each other in memory."""
    follows, end = True, parts[0].data_ptr()
    for part in parts:
        follows &= part.is_contiguous() and part.data_ptr() == end
        follows &= part.untyped_storage().data_ptr() == parts[0].untyped_storage().data_ptr()
        end += part.nbytes
    if not follows:
        return torch.cat(parts)
    rows = sum(len(part) for part in parts)
    return parts[0].as_strided((rows, *parts[0].shape[1:]), parts[0].stride())
