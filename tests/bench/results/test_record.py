"""Result files: whole or as they were, and what they say of the machine."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.results import record
from tests.support.nvidia_smi import install_nvidia_smi


def test_a_result_has_its_head_first(tmp_path: Path) -> None:
    path = record.save_result(tmp_path / "new" / "a.json", "speed", {"n": 3}, {"cpu": "x"})
    assert list(json.loads(path.read_text()).items()) == [
        ("schema_version", record.SCHEMA_VERSION), ("kind", "speed"), ("environment", {"cpu": "x"}), ("n", 3),
    ]  # fmt: skip
    assert path.read_bytes().endswith(b"}\n")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = record.save_result(tmp_path / "a.json", "speed", {"n": 3}, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        record.save_result(path, "speed", {"n": object()}, {})
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_measurement_is_kept_part_by_part_under_one_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, seen = tmp_path / "a.json", list[dict[str, Any]]()

    def measure(keep: record.Keep) -> dict[str, Any]:
        keep({"part": 1})
        seen.append(json.loads(path.read_text()))
        return {"part": 1, "rest": 2}

    assert record.measure_and_save(path, "gpu", measure) == 0
    whole = json.loads(path.read_text())
    assert seen[0]["part"] == 1 and "rest" not in seen[0]
    assert whole["rest"] == 2 and whole["environment"] == seen[0]["environment"] and whole["kind"] == "gpu"
    assert capsys.readouterr().out == f"written to {path}\n"


def test_the_environment_names_the_machine_and_its_packages() -> None:
    where = record.describe_environment()
    assert where["cores"] >= 1 and where["memory_gb"] > 0.1 and where["cpu"] and where["time"].endswith("+00:00")
    assert where["packages"]["numpy"] and set(where["packages"]) <= set(record.PACKAGES)


def test_the_environment_names_every_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, "echo NVIDIA H200, 143771 MiB, 580; echo NVIDIA L4, 1 MiB, 580", monkeypatch)
    assert record.describe_environment()["gpu"] == "NVIDIA H200, 143771 MiB, 580; NVIDIA L4, 1 MiB, 580"


def test_without_gpus_and_git_it_names_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert record.describe_environment()["gpu"] == "" and record.read_commit() == ""


def test_the_commit_is_this_checkout_s() -> None:
    folder = Path(record.__file__).parent
    head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    commit = record.read_commit().removesuffix("-dirty")
    assert head.startswith(commit) and len(commit) == 12 if head else commit == ""


def test_the_option_names_a_file_among_the_recorded_runs() -> None:
    parser = argparse.ArgumentParser()
    record.add_out(parser, "page-builtin.json")
    assert parser.parse_args([]).out == record.RUNS / "page-builtin.json"
    assert parser.parse_args(["--out", "x"]).out == Path("x")
