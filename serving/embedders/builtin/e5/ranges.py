"""The largest numbers that go into the matrices of e5's layers: some are large in every text, at the same place.

`ranges.npz` was made with `python -m serving.embedders.builtin.e5.ranges`, from sentences in nine languages.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

from serving.embedders.base import Vectors
from serving.embedders.builtin.e5.tokenizer import Tokenizer, write_pieces
from serving.embedders.builtin.e5.weights import TokenEmbeddings, WeightsFile, find_weights
from serving.embedders.builtin.parallel_texts import load_sentences

RANGES = Path(__file__).with_name("ranges.npz")


def load_ranges() -> Vectors:
    """Return float32[layers, 2, width]: before attention, and before the inner matrices."""
    with np.load(RANGES) as found:
        return np.asarray(found["ranges"], np.float32)


def measure_ranges() -> Vectors:
    """Return what `load_ranges` does, as an encoder without it has them for the sentences."""
    from onnx import TensorProto, helper

    from serving.embedders.builtin.e5.graph import STATES, build_encoder, name_inputs

    weights = WeightsFile(find_weights())
    names, shape = name_inputs(weights.layers), (weights.layers, 2, weights.width)
    model, data = build_encoder(weights, np.ones(shape, np.float32), "data")
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    with TemporaryDirectory() as folder:
        Path(folder, "data").write_bytes(data)
        Path(folder, "model").write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(Path(folder, "model"), providers=["CPUExecutionProvider"])
    embed_tokens = TokenEmbeddings(weights)
    largest = np.zeros((len(names), weights.width), np.float32)
    for tokens in tokenise_sentences(weights):
        found = session.run(names, {STATES: embed_tokens([tokens])})
        np.maximum(largest, [np.abs(states[0]).max(axis=0) for states in found], out=largest)
    return largest.reshape(shape)


def tokenise_sentences(weights: WeightsFile) -> list[list[int]]:
    with TemporaryDirectory() as folder:
        files = Path(folder) / "pieces", Path(folder) / "numbers"
        write_pieces(weights, *files)
        tokenizer = Tokenizer(weights, *files)
        return [tokenizer.encode(f"passage: {text}") for texts in load_sentences().values() for text in texts]


if __name__ == "__main__":
    np.savez_compressed(RANGES, ranges=measure_ranges().astype(np.float16))
