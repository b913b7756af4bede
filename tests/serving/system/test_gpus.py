"""The GPUs that are found, with a small program in the place of nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.system.gpus import list_gpus, query_gpus
from tests.support.nvidia_smi import install_nvidia_smi

THREE = "for n in 0 1 2; do echo $n, GPU-$n$n-aa; done"
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
def test_those_that_cuda_would_show(
    visible: str | None, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_nvidia_smi(tmp_path, THREE, monkeypatch)
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert list_gpus(environment) == found


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found", "echo 0, GPU-00-aa; exit 9"])
def test_none_where_nothing_tells(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, script, monkeypatch)
    assert list_gpus({}) == []


def test_none_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list_gpus({}) == query_gpus("name") == []


def test_each_gpu_is_a_line_of_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, 'echo "$1 $2"; echo second', monkeypatch)
    assert query_gpus("memory.used", "nounits") == [
        "--query-gpu=memory.used --format=csv,noheader,nounits",
        "second",
    ]
