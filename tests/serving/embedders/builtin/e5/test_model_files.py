"""The files that are made of the weights: once, whole, and again when they are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from serving.embedders.builtin.e5 import model_files
from serving.embedders.builtin.e5.encoder import E5
from serving.embedders.builtin.e5.graph import build_encoder, limit_pairs
from serving.embedders.builtin.e5.model_files import CONSTANTS, DIGESTS, ENCODER, NUMBERS, PIECES, make_files
from serving.embedders.builtin.e5.ranges import load_ranges, measure_ranges
from serving.embedders.builtin.e5.weights import WeightsFile, dequantise, find_weights


@pytest.fixture(scope="module")
def weights() -> WeightsFile:
    return WeightsFile(find_weights())


def test_they_are_made_once(weights: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_files(weights, tmp_path)
    assert {path.name for path in folder.iterdir()} == {ENCODER, CONSTANTS, PIECES, NUMBERS, DIGESTS}

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(model_files, "write_pieces", refuse)
    assert make_files(weights, tmp_path) == folder


@pytest.mark.parametrize("name", [ENCODER, CONSTANTS, PIECES, NUMBERS, DIGESTS])
def test_a_damaged_file_is_made_again(name: str, weights: WeightsFile, tmp_path: Path) -> None:
    """Cut short, as by a full disk; the other files of an earlier release are removed."""
    folder = make_files(weights, tmp_path)
    right = (folder / name).read_bytes()
    (folder / name).write_bytes(right[: len(right) // 2])
    (tmp_path / "e5-of-before").mkdir()
    assert make_files(weights, tmp_path) == folder and (folder / name).read_bytes() == right
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in its place")
    with pytest.raises(OSError, match="models"):
        E5(tmp_path / "models")


def test_the_graph_is_valid_and_always_the_same(weights: WeightsFile, tmp_path: Path) -> None:
    made, again = (build_encoder(weights, load_ranges(), "data") for _ in range(2))
    assert made[0].SerializeToString() == again[0].SerializeToString() and made[1] == again[1]
    (tmp_path / "data").write_bytes(made[1])
    onnx.save_model(made[0], tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx")


def test_sums_of_two_products_fit_in_sixteen_bits(weights: WeightsFile, tmp_path: Path) -> None:
    """AVX2's vpmaddubsw cuts what does not; neighbours of a row that are too large together are made smaller."""
    model, data = build_encoder(weights, load_ranges(), "data")
    (tmp_path / "data").write_bytes(data)
    onnx.load_external_data_for_model(model, str(tmp_path))
    constants = model.graph.initializer
    matrices = [onnx.numpy_helper.to_array(one) for one in constants if one.data_type == onnx.TensorProto.INT8]
    sums = np.concatenate(
        [np.abs(matrix.astype(int).reshape(-1, 2, matrix.shape[1]).sum(axis=1)) for matrix in matrices], None
    )
    assert len(matrices) == 48 and 255 * sums.max() < 2**15
    assert limit_pairs(np.array([[80, 79, -80, 20], [-80, -70, 1, 2]], np.int16)).tolist() == [
        [65, 63, -80, 20],
        [-69, -59, 1, 2],
    ]


def test_ranges_are_those_of_the_sentences(weights: WeightsFile) -> None:
    """`ranges.npz` is what `measure_ranges` gives; kernels of other CPUs round otherwise."""
    found = load_ranges()
    assert found.shape == (weights.layers, 2, weights.width)
    assert found == pytest.approx(measure_ranges(), rel=0.1, abs=0.1)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"E5S2" + bytes(100))
    with pytest.raises(ValueError, match=r"weights\.bin has another layout"):
        WeightsFile(tmp_path / "weights.bin")


def test_four_bits_are_read_with_their_scale(weights: WeightsFile) -> None:
    rows = dequantise(weights.read_blocks("l0.q.w", weights.width))
    assert rows.shape == (384, 384) and np.isfinite(rows).all()
    blocks = rows.reshape(-1, 32)
    steps = np.array([len(np.unique(block)) for block in blocks])
    assert steps.max() <= 16 and 0.01 < rows.std() < 0.2
