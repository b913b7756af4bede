"""The targets that options name: which options go together, and one engine for each way of coming back."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import build_parser, main
from bench.coldstart import select_targets
from bench.coldstart.select_targets import check_options, parse_snapshots, start_engines

HERE = "http://127.0.0.1:9"


def parse(words: str) -> argparse.Namespace:
    return build_parser().parse_args(words.split())


class Engine:
    """What `start_engines` needs of one; `auto` is criu here."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.arguments = arguments
        self.backend = name.partition(" ")[2].replace("auto", "criu")
        self.refused = {"cuda": "no GPU"}
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--mode both --url http://127.0.0.1:9", "takes --vllm-url and --hf-url"),
        ("--mode builtin --hf-url http://127.0.0.1:9", "--hf-url is not for --mode builtin"),
        ("--mode vllm --url http://127.0.0.1:9 --vllm-url http://127.0.0.1:9", "give one of them"),
        ("--url http://127.0.0.1:9", "nothing answers at http://127.0.0.1:9"),
    ],
)
def test_addresses_that_fit_no_mode(
    words: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), "--out", str(tmp_path)]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--modal --mode builtin", "--modal is for --mode huggingface, vllm or both"),
        (f"--modal --mode vllm --url {HERE}", "give no address beside it"),
        (f"--modal --mode both --hf-url {HERE}", "give no address beside it"),
        ("--modal mine --mode both", "does not say which of them it is"),
        (f"--mode vllm --hf-url {HERE}", "--hf-url is not for --mode vllm"),
    ],
)
def test_options_that_do_not_go_together(words: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_options(parse(words))


@pytest.mark.parametrize(
    "words",
    ["--num-warmup 1", "--modal --mode both", "--modal mine --mode vllm", f"--url {HERE}",
     f"--mode both --vllm-url {HERE} --hf-url {HERE}", f"--mode huggingface --hf-url {HERE}"],
)  # fmt: skip
def test_options_that_do(words: str) -> None:
    check_options(parse(words))


def test_a_list_of_snapshots_has_each_known_one_once() -> None:
    assert parse_snapshots("plain, auto") == ("plain", "auto")
    for wrong in ("docker", "plain,plain", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a list of different ones of auto, "):
            parse_snapshots(wrong)


def start(words: str, deployment: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Engine], list[str]]:
    """Return the targets, all engines that were started, and what was said."""
    engines: list[Engine] = []
    said: list[str] = []

    def start_engine(name: str, arguments: list[str]) -> Engine:
        engines.append(Engine(name, arguments))
        return engines[-1]

    monkeypatch.setattr(select_targets, "start_engine", start_engine)
    with ExitStack() as stack:
        targets: list[Any] = list(start_engines(deployment, parse(words), stack, said.append))
        assert not any(target.closed for target in targets)
    assert all(engine.closed for engine in engines)
    return targets, engines, said


def test_auto_is_measured_only_if_nothing_else_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, engines, said = start("--snapshots auto,plain,criu", "builtin", monkeypatch)
    assert [target.name for target in targets] == ["builtin plain", "builtin criu"] and len(engines) == 3
    assert said[-1] == "auto is criu here, which is measured already (cuda: no GPU)"
    targets, _, _ = start("--snapshots auto,plain", "builtin", monkeypatch)
    assert [target.name for target in targets] == ["builtin plain", "builtin criu"]


def test_weights_and_device_are_for_gpu_embedders(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--mode vllm --snapshots plain --weights there --device cpu"
    _, (engine,), _ = start(words, "vllm", monkeypatch)
    assert engine.arguments[:4] == ["--embedder", "vllm", "--snapshot", "plain"]
    assert engine.arguments[-4:] == ["--weights", "there", "--device", "cpu"]
    _, (builtin,), _ = start(words, "builtin", monkeypatch)
    assert "--weights" not in builtin.arguments and "--device" not in builtin.arguments
    _, (hf,), _ = start("--snapshots plain", "hf", monkeypatch)
    assert hf.arguments[:2] == ["--embedder", "bigemma3"]
