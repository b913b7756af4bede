"""The GPUs that are found, with a small program in the place of nvidia-smi."""

from __future__ import annotations

import sys

import pytest

from serving.system.gpus import list_gpus

THREE = [sys.executable, "-c", "for n in range(3): print(f'{n}, GPU-{n}{n}-aa')"]
ALL = ["GPU-00-aa", "GPU-11-aa", "GPU-22-aa"]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ALL),
        ("0,1,2", ALL),
        ("2, 0", ["GPU-22-aa", "GPU-00-aa"]),
        ("GPU-11", ["GPU-11-aa"]),
        ("GPU-11-aa,1", ["GPU-11-aa"]),
        ("1,7,2", ["GPU-11-aa"]),
        ("-1", []),
        ("", []),
        ("MIG-4f99", []),
    ],
)
def test_those_that_cuda_would_show(visible: str | None, found: list[str]) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert list_gpus(environment, THREE) == found


@pytest.mark.parametrize(
    "query",
    [
        ["/nowhere/nvidia-smi"],
        [sys.executable, "-c", "raise SystemExit(9)"],
        [sys.executable, "-c", "print('No devices were found')"],
    ],
)
def test_none_where_nothing_tells(query: list[str]) -> None:
    assert list_gpus({}, query) == []
