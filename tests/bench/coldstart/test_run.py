"""The cold-start bench against real engines: what it counts, what it survives, and what lies on disk meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from bench.__main__ import main
from bench.coldstart.plan import Trial, plan_trials
from bench.coldstart.result_file import load_result, select_start_seconds
from bench.coldstart.run import Display, build_result, render_progress, render_table, run_trials
from bench.coldstart.sample import NOT_OURS, STARTED_BEFORE, Sample, measure_trial
from bench.coldstart.target import LocalEngine
from tests.support import criu
from tests.support.embedding_servers import answer, server
from tests.support.engines import EngineProcess
from tests.support.scripted_engine import script

ROOT = Path(__file__).parents[3]
FILE = "cold_start_results_builtin.json"


class Heard(Display):
    def __init__(self, then: Callable[[str], None] = lambda _: None) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.phases: list[str] = []
        self._then = then

    def show_phase(self, text: str) -> None:
        self.phases.append(text)
        self._then(text)

    def show_row(self, text: str) -> None:
        self.rows.append(text)


def nowhere(_: Sequence[Sample], __: bool) -> None: ...


def target(name: str, engine: EngineProcess) -> LocalEngine:
    return LocalEngine(name, engine.wait(), "", engine.admin["X-Admin-Key"])


@pytest.fixture(scope="module")
def restoring() -> str:
    path = criu.tool()
    return "criu" if path is not None and not criu.unusable(path) else "fork"


@pytest.fixture(scope="module")
def plain_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("plain"), "plain") as engine:
        engine.wait()
        yield engine


def started(engine: EngineProcess, out: Path, *words: str) -> subprocess.Popen[str]:
    """The command in a process of its own, against this engine."""
    command = [sys.executable, "-m", "bench", "--url", engine.wait(), "--out", str(out), *words]
    environment = {**os.environ, "DORMOUSE_DATA": str(engine.data)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def on_disk(path: Path, least: int, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The result file once it has that many samples."""
    ends = time.monotonic() + 40
    while time.monotonic() < ends and process.poll() is None:
        if path.exists() and len((found := json.loads(path.read_text()))["samples"]) >= least:
            return dict(found)
        time.sleep(0.02)
    raise AssertionError(process.communicate(timeout=5))


def test_cold_is_proven_created_is_excluded_and_plain_and_restored_are_compared(
    tmp_path: Path, plain_engine: EngineProcess, restoring: str
) -> None:
    kept: list[tuple[int, bool]] = []
    with EngineProcess(tmp_path, restoring) as engine:
        targets = [target("plain", plain_engine), target("back", engine)]
        trials = plan_trials(["plain", "back"], 2, 2, True, 3)
        heard = Heard()
        samples, complete = run_trials(trials, targets, heard, lambda s, whole: kept.append((len(s), whole)), 60)
        for one in targets:
            one.close()
    assert complete and kept == [*[(n + 1, False) for n in range(16)], (16, True)]
    cold = [sample for sample in samples if sample.kind != "warm"]
    created = [sample for sample in cold if sample.start_kind == "created"]
    assert len(created) == 1 and not created[0].verified and created[0].why_not == "made the snapshot"
    assert all(sample.verified for sample in cold if sample is not created[0])
    assert not any(sample.verified for sample in samples if sample.kind == "warm")
    assert all(sample.counts_as_warm for sample in samples if sample.kind == "warm")

    titles = {one.name: one.title for one in targets}
    found = build_result("builtin", samples, titles, 0, True)
    assert found["headline"] == "back" and restoring in titles["back"]
    assert found["cold_start_ms"] and found["warm_start_avg_ms"] and found["post_scaledown_cold_start_ms"]
    assert found["warm_start_p50_ms"] <= found["warm_start_p95_ms"]
    figures = found["summary"]
    assert (figures["plain"]["n"], figures["restored"]["n"], figures["warm"]["n"]) == (4, 3, 8)
    assert figures["plain_over_restored"]["n"] == [4, 3]
    assert figures["targets"]["back"]["plain_over_restored"] == figures["plain_over_restored"]
    assert figures["cold_over_warm"]["low"] <= figures["cold_over_warm"]["value"] <= figures["cold_over_warm"]["high"]
    assert figures["counts"]["verified"] == 7 and figures["counts"]["excluded"] == 1
    assert len(found["samples"]) == 16
    text = render_table(found)
    assert "back: plain over restored" in text and "n=4 and 3" in text and "?" in text
    assert "made the snapshot" in "\n".join(heard.rows) and "[16/16]" in render_progress(samples, 16)


@pytest.mark.soak
def test_a_server_that_dies_in_the_middle_of_a_trial_is_a_row_and_the_run_goes_on(
    tmp_path: Path, plain_engine: EngineProcess
) -> None:
    killers: list[threading.Thread] = []
    with EngineProcess(tmp_path, "plain") as engine:
        dying = target("dying", engine)

        def kill() -> None:
            engine.until(lambda status: status["in_flight"] == 1)
            engine.kill()

        def then(text: str) -> None:
            if text == "dying: warm request" and not killers:
                script(tmp_path, embed_s=60)
                killers.append(threading.Thread(target=kill))
                killers[0].start()

        living = target("living", plain_engine)
        trials = plan_trials(["dying", "living"], 1, 2, True, 0)
        samples, complete = run_trials(trials, [dying, living], Heard(then), nowhere, 6)
        killers[0].join()
        dying.close()
        living.close()
    assert complete and len(samples) == len(trials)
    of = [sample for sample in samples if sample.target == "dying"]
    assert [sample.outcome for sample in of[:3]] == ["ok", "refused", "not_scaled_down"]
    assert of[1].failed_tries["reset"] == 1 and "nothing answers" in of[2].why_not
    assert not any(sample.verified or sample.counts_as_warm for sample in of[1:])
    assert all(sample.outcome == "ok" for sample in samples if sample.target == "living")
    assert "outcomes" in render_table(build_result("builtin", samples, {"dying": "", "living": ""}, 0, True))


def test_another_server_is_never_verified_and_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(answer()) as (url, bodies):
        code = main(["--url", url, "--scaledown-wait", "0.01", "--num-warmup", "1", "--out", str(tmp_path)])
    found = json.loads((tmp_path / FILE).read_text())
    assert code == 1 and len(bodies) == 6
    assert all(not sample["verified"] for sample in found["samples"])
    assert {sample["why_not"] for sample in found["samples"]} == {NOT_OURS}
    assert found["cold_start_ms"] is None and found["headline"] == "" and found["complete"] is True
    told = capsys.readouterr()
    assert "never verified cold in 3 tries" in told.out and NOT_OURS in told.out
    assert "nothing was verified cold" in told.err


@pytest.mark.soak
def test_a_slow_cold_start_ends_with_1(tmp_path: Path, plain_engine: EngineProcess) -> None:
    words = ["--num-warmup", "0", "--repetitions", "1", "--max-cold-ms"]
    fast = started(plain_engine, tmp_path, *words, "1000000")
    out, err = fast.communicate(timeout=60)
    assert fast.returncode == 0, out + err
    found = json.loads((tmp_path / FILE).read_text())
    assert {"schema_version", "environment", "deployment_name", "summary"} <= found.keys() and found["complete"]
    assert found["samples"][0]["verified"] and found["cold_start_ms"] == found["samples"][0]["client_ms"]
    slow = started(plain_engine, tmp_path, *words, "0.5")
    out, err = slow.communicate(timeout=60)
    assert slow.returncode == 1 and "above 0.5" in err


def test_a_wrong_admin_key_is_told(
    plain_engine: EngineProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DORMOUSE_ADMIN_KEY", "another")
    assert main(["--url", plain_engine.wait(), "--out", str(tmp_path)]) == 1
    assert "refused the admin key: set DORMOUSE_ADMIN_KEY" in capsys.readouterr().err
    assert not (tmp_path / FILE).exists()


@pytest.mark.soak
def test_after_sigkill_the_file_has_every_earlier_sample(tmp_path: Path, plain_engine: EngineProcess) -> None:
    process = started(plain_engine, tmp_path, "--num-warmup", "1000")
    on_disk(tmp_path / FILE, 5, process)
    process.kill()
    out, _ = process.communicate(timeout=20)
    found = json.loads((tmp_path / FILE).read_text())
    told = sum(row.startswith("[") for row in out.splitlines())
    assert len(found["samples"]) >= max(5, told) and found["complete"] is False
    assert [sample["number"] for sample in found["samples"]] == list(range(1, len(found["samples"]) + 1))
    assert found["samples"][0]["verified"]


@pytest.mark.long
@pytest.mark.soak
def test_an_engine_that_is_killed_costs_no_earlier_sample_and_the_command_says_so(tmp_path: Path) -> None:
    """SIGKILL of the engine itself, and its worker goes with it: each later trial is a row."""
    with EngineProcess(tmp_path, "plain") as engine:
        script(tmp_path, embed_s=0.5)
        words = ["--num-warmup", "6", "--repetitions", "1", "--test-scaledown", "--timeout", "6"]
        process = started(engine, tmp_path, *words)
        before = on_disk(tmp_path / FILE, 3, process)["samples"]
        worker = engine.worker()
        engine.kill()
        out, err = process.communicate(timeout=120)
        worker.wait(20)
    found = json.loads((tmp_path / FILE).read_text())
    rows = found["samples"]
    assert rows[: len(before)] == before and before[0]["verified"]
    assert found["complete"] is True and [row["number"] for row in rows] == list(range(1, 9))
    ok = [row["outcome"] for row in rows].index("refused")
    assert 3 <= ok < 7 and all(row["outcome"] == "ok" for row in rows[:ok])
    cold = [row for row in rows[ok:] if row["kind"] != "warm"]
    assert cold and all(row["outcome"] == "not_scaled_down" and "nothing answers" in row["why_not"] for row in cold)
    assert {row["outcome"] for row in rows[ok:] if row["kind"] == "warm"} == {"refused"}
    assert not any(row["verified"] for row in rows[ok:]) and found["warm_start_p50_ms"] > 500
    assert process.returncode == 1, out + err
    assert f"no answer to its last {8 - ok} of 8 trials (refused" in err and "what was measured before is kept" in err
    assert "cold, plain" in out and "Traceback" not in err


JUMPING = """
import time
real, shift = time.time, 7 * 3600.0
def wrong():
    return real() + (shift if int(time.monotonic() * 4) % 2 else -shift)
time.time = wrong
time.time_ns = lambda: int(wrong() * 1e9)
"""


@pytest.mark.soak
def test_a_server_whose_clock_jumps_by_hours_changes_no_figure(tmp_path: Path) -> None:
    """A real engine and its worker, four times a second seven hours ahead or behind: so are their Date headers, the
    times of their starts and the age of their snapshot. Every duration is of the client's own clock, or monotonic."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(JUMPING)
    path = os.pathsep.join([str(folder), str(ROOT)])
    with EngineProcess(tmp_path, "fork", "--scaledown-window", "3600", PYTHONPATH=path) as engine:
        date = parsedate_to_datetime(engine.ask().headers["Date"]).timestamp()
        assert abs(date - time.time()) > 20_000, "the header follows it"
        began, wall = time.monotonic(), time.time()
        process = started(engine, tmp_path, "--num-warmup", "6", "--repetitions", "3", "--test-scaledown")
        out, err = process.communicate(timeout=120)
        took_ms, ended = (time.monotonic() - began) * 1000, time.time()
        history = engine.status()["history"]
    assert process.returncode == 0, out + err
    assert any(abs(row["at"] - wall) > 20_000 for row in history), "its own times are as wrong"
    found = json.loads((tmp_path / FILE).read_text())
    samples = found["samples"]
    assert len(samples) == 24 and all(sample["outcome"] == "ok" for sample in samples)
    assert sum(sample["client_ms"] for sample in samples) < took_ms
    for sample in samples:
        assert wall - 1 <= datetime.fromisoformat(sample["started"]).timestamp() <= ended + 1
        assert all(0 <= ms < took_ms for ms in sample["server_ms"].values()), sample["server_ms"]
        assert sample["server_ms"]["embed"] <= sample["client_ms"]
        if sample["verified"]:
            assert 0 < sample["server_ms"]["restore"] <= sample["client_ms"]
    assert all(0 <= ms < took_ms for row in history for ms in (row["ready_ms"], row["first_answer_ms"]))
    assert found["summary"]["counts"]["verified"] == 6 and found["headline"] == "builtin"
    assert 0 < found["warm_start_p50_ms"] < found["post_scaledown_cold_start_ms"] < took_ms
    assert select_start_seconds(load_result(tmp_path / FILE)) == pytest.approx(
        [(s["client_ms"] - found["warm_start_p50_ms"]) / 1000 for s in samples if s["verified"]]
    )


@pytest.mark.soak
def test_a_worker_that_was_up_before_it_was_asked_is_no_cold_start(plain_engine: EngineProcess) -> None:
    plain_engine.to_zero()
    assert requests.post(plain_engine.wait() + "/wake_up", headers=plain_engine.admin, timeout=30).ok
    found = measure_trial(Trial(1, "t", "initial", 1), plain_engine.wait(), "", 30, set())
    assert (found.outcome, found.boot_requests, found.why_not) == ("ok", 1, STARTED_BEFORE)
    assert plain_engine.status()["last_start"]["first_answer_ms"] is None


@pytest.mark.soak
def test_ctrl_c_keeps_what_was_measured_and_says_that_it_is_not_all(
    tmp_path: Path, plain_engine: EngineProcess
) -> None:
    process = started(plain_engine, tmp_path, "--num-warmup", "1000")
    on_disk(tmp_path / FILE, 5, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, out + err
    found = json.loads((tmp_path / FILE).read_text())
    assert len(found["samples"]) >= 5 and found["complete"] is False
    assert "marked incomplete" in err and "cold, plain" in out


@pytest.mark.soak
def test_the_command_starts_its_own_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The built-in embedder; where nothing but plain is asked for, `auto` has no part."""
    words = ["--num-warmup", "1", "--repetitions", "1", "--test-scaledown", "--snapshots", "plain"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / FILE).read_text())
    assert found["headline"] == "builtin plain" and found["summary"]["counts"]["verified"] == 2
    assert "written to" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    ["--num-warmup -1", "--num-warmup 1.5", "--repetitions 0", "--repetitions 9999999", "--scaledown-wait -1",
     "--scaledown-wait nan", "--timeout 0", "--timeout inf", "--max-cold-ms 0", "--seed -3", "--snapshots docker",
     "--snapshots plain,plain", "--snapshots ,"],
)  # fmt: skip
def test_absurd_parameters_are_refused_with_a_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert " is not a " in capsys.readouterr().err
