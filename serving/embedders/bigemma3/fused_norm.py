"""One kernel for the residual sum and the layer norm between the halves of a transformer layer.

Two kernels would read and write the same states once more (docs/design/gpu.md). Triton comes with every torch for
CUDA; nothing here is imported on a CPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator]
def add_norm_kernel(hidden, delta, normed, weight, bias, eps, width: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    row = tl.program_id(0).to(tl.int64) * width
    column = tl.arange(0, block)
    inside = column < width
    # Rounded to the states' own type first, as a sum by itself would be.
    total = tl.load(hidden + row + column, inside, 0.0) + tl.load(delta + row + column, inside, 0.0)
    tl.store(hidden + row + column, total, inside)
    values = total.to(tl.float32)
    mean = tl.sum(values, 0) / width
    centred = tl.where(inside, values - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / width + eps)
    gain = tl.load(weight + column, inside, 0.0).to(tl.float32)
    shift = tl.load(bias + column, inside, 0.0).to(tl.float32)
    tl.store(normed + row + column, (centred * scale * gain + shift).to(normed.dtype.element_ty), inside)


def add_norm(hidden: Tensor, delta: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Add `delta` to `hidden`, both contiguous and alike, in place; return the layer norm over the last axis."""
    width = hidden.shape[-1]
    normed = torch.empty_like(hidden)
    rows = hidden.numel() // width
    add_norm_kernel[(rows,)](
        hidden, delta, normed, weight, bias, eps, width, triton.next_power_of_2(width), num_warps=4
    )
    return normed
