"""`python -m bench parity` between the two servers, as who deploys them runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.vllm.conftest import Served


def parity(vllm: Served, hf: Served, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "parity", "--a", hf.url, "--b", vllm.url]
    where = ["--data", str(folder), "--out", str(folder / "result.json")]
    return subprocess.run([*command, *where, *more], capture_output=True, text=True, timeout=170)


def test_on_a_cpu_pages_differ_by_their_attention_and_may_not_share_a_collection(
    vllm: Served, hf: Served, tmp_path: Path
) -> None:
    """vLLM looks back only inside an image there: the bench finds it, and queries are the same to the last digit."""
    done = parity(vllm, hf, tmp_path)
    print(done.stdout, done.stderr)
    assert done.returncode == 1 and "do not compute the same vectors" in done.stderr
    assert "BiGemma3 (HuggingFace)" in done.stdout and "BiGemma3 (vLLM)" in done.stdout
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["queries"]["min"] >= 0.9999 and not found["blurred"]
    assert not (tmp_path / "parity.json").exists()


def test_what_is_asked_for_and_shown_is_recorded(vllm: Served, hf: Served, tmp_path: Path) -> None:
    done = parity(vllm, hf, tmp_path, "--threshold-pages", "0.95")
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    assert "min cosine" in done.stdout and "the same page first" in done.stdout
    (pair,) = json.loads((tmp_path / "parity.json").read_text())["pairs"]
    assert pair["threshold"] == {"pages": 0.95, "queries": 0.9999} and pair["pages"]["n"] == 32
