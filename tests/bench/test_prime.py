"""Priming real engines: until they come back from a snapshot, or not at all. Modal's: tests/modal/test_bench.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.coldstart.run import Display
from bench.coldstart.sample import Sample
from bench.coldstart.target import PlainUrl, TargetError
from bench.cost.prices import price_machine
from bench.prime import PrimeProgress, classify_start, prime_targets, render_verdict
from bench.results.record import Say
from tests.support.embedding_servers import answer, ours, server
from tests.support.engines import EngineProcess

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the engine's admin key is found."""
    monkeypatch.setenv("DORMOUSE_DATA", str(tmp_path))
    return tmp_path


def test_until_enough_came_back_and_then_at_zero(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EngineProcess(data, "fork") as engine:
        words = ["prime", "--url", engine.wait(), "--restores", "2", "--max-starts", "5", "--price-per-hour", "3600"]
        assert main(words) == 0
        assert engine.status()["state"] == "zero"
        out = capsys.readouterr().out
        assert main(["prime", "--url", engine.wait(), "--restores", "1"]) == 0, "it has its snapshot already"
        again = capsys.readouterr().out
    rows = [line.partition(": ")[2].split(",")[0] for line in out.splitlines() if line.startswith("server ")]
    assert rows == ["created", "restored", "restored"]
    assert "server 3/5: restored, " in out and "2 of 2 restored" in out
    spent = [line for line in out.splitlines() if "so far" in line]
    assert len(spent) == 3 and spent[0].startswith("server: about $")
    assert out.splitlines()[-1].startswith("server: 2 restored, 1 created; ") and out.rstrip().endswith("Primed")
    assert "$" not in again, "nobody knows what an engine elsewhere costs"


def test_not_enough_is_told_with_what_to_do(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EngineProcess(data, "plain") as engine:
        assert main(["prime", "--url", engine.wait(), "--max-starts", "2"]) == 1
    out = capsys.readouterr().out
    assert "server: 2 plain; " in out and "Not primed: no snapshot is made" in out


def test_failures_are_rows_and_the_rest_goes_on(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server(answer(500), answer(500), ours(), answer(500)) as (url, bodies):
        assert main(["prime", "--url", url, "--scaledown-wait", "0"]) == 1
    out = capsys.readouterr().out
    assert "server 2/12: failed (no answer: http_500)" in out and "server 3/12: plain, " in out
    assert len(bodies) == 6, "given up after three in a row"
    assert "server: 5 failed, 1 plain; " in out


def test_wrong_keys_are_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server(answer(401)) as (url, _):
        assert main(["prime", "--url", url, "--scaledown-wait", "0"]) == 1
    out = capsys.readouterr().out
    assert "it refused the keys; set DORMOUSE_WORKER_KEY, DORMOUSE_ADMIN_KEY, DORMOUSE_MODAL_KEY" in out


def test_one_that_does_not_come_to_zero_keeps_the_next_from_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Stuck(PlainUrl):
        def scale_down(self, say: Say) -> None:
            raise TargetError("it is held up")

    options = Namespace(restores=1, max_starts=1, timeout=20.0)
    with server(ours(kind="restored")) as (url, _):
        targets = [Stuck("a", url, "", 0), PlainUrl("b", url, "", 0)]
        assert prime_targets(targets, options, price_machine("any", 0), Display()) == 1
    out = capsys.readouterr().out
    assert "a: it is held up" in out and "a: no start; " in out and "b: 1 restored; 0 s up. Primed" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "http://127.0.0.1:9"], "nothing answers at http://127.0.0.1:9"),
        (["--app", "x"], "--app is for one server: give its --mode"),
        (["--url", "nowhere"], "is not an address"),
        (["--url", "http://127.0.0.1:9", "--gpu", "L40"], "no price is known for 'L40'"),
    ],
)
def test_what_cannot_be_primed_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prime", *words]) == 1
    assert said in capsys.readouterr().err


def test_ctrl_c_ends_it_with_a_word(data: Path) -> None:
    with EngineProcess(data, "plain") as engine:
        command = [sys.executable, "-m", "bench", "prime", "--url", engine.wait(), "--max-starts", "1000"]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        while "server 2/1000" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert "server: " in out and " plain; " in out, "what came is told"
    assert process.returncode == 130 and said.startswith("stopped: a container that is up goes to zero")


def test_the_verdict_fits_what_came() -> None:
    hour = price_machine("any", 3.6)

    def told(**kinds: int) -> str:
        found = PrimeProgress(starts=sum(kinds.values()), up_s=100.0)
        found.kinds.update(kinds)
        return render_verdict("hf", found, 2, hour)

    assert told(created=1, restored=2) == (
        "hf: 2 restored, 1 created; 100 s up, about $0.100 (any at $3.60 an hour). Primed"
    )
    assert told(created=1, restored=1).endswith("1 of 2 restored; run it again, or allow more --max-starts")
    assert told(created=3).endswith("run it again in a few minutes")
    assert told(warm=3).endswith("see the reasons above")


def test_a_process_that_was_there_already_is_warm() -> None:
    row = Sample(1, "hf", "initial", 1, "", 1.0, "ok", boot_id="b", start_kind="restored", boot_requests=2)
    assert classify_start(row) == "warm"
