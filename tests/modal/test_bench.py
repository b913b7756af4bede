"""The bench against our servers in the local cloud: found, brought to zero, primed, measured. No time is Modal's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpclib.const import Status

from bench.coldstart.modal_target import SHORTEST_S, ModalServer
from bench.coldstart.plan import Trial
from bench.coldstart.sample import Sample, measure_trial
from bench.coldstart.target import TargetError
from bench.cost import prices
from bench.cost.prices import LISTED
from serving.cloud import modal_account
from serving.cloud.credentials import Keys
from serving.cloud.modal_account import AccountError
from tests.modal.cloud import PROXY_TOKEN, Cloud
from tests.modal.containers import REPOSITORY
from tests.support.modal_apps import APP, EMBEDDER
from ui.coldstart import cost_panel

pytestmark = pytest.mark.soak

SECRET = {"DORMOUSE_API_KEYS": "api", "DORMOUSE_ADMIN_KEY": "admin"}
HEADERS = dict(zip(("Modal-Key", "Modal-Secret"), PROXY_TOKEN, strict=True))
KEYS = {
    "DORMOUSE_WORKER_KEY": "api", "DORMOUSE_ADMIN_KEY": "admin", "DORMOUSE_MODAL_KEY": PROXY_TOKEN[0],
    "DORMOUSE_MODAL_SECRET": PROXY_TOKEN[1],
}  # fmt: skip


@pytest.fixture(scope="module")
def served() -> Iterator[Cloud]:
    """A cloud in which the HuggingFace server was deployed, with the built-in embedder in its place."""
    with Cloud() as cloud:
        cloud.secrets["dormouse"] = SECRET
        done = cloud.deploy("serving/serve_hf_snapshot.py", env=EMBEDDER)
        assert done.returncode == 0, done.stdout + done.stderr
        yield cloud


@pytest.fixture
def target(served: Cloud) -> Iterator[ModalServer]:
    """At zero, before and after."""
    served.stop_containers(APP)
    with served.client():
        yield ModalServer("hf", APP, Keys("api", "admin", HEADERS), settle_s=0)
    served.stop_containers(APP)


def ask(target: ModalServer, seen: set[str] | None = None) -> Sample:
    trial = Trial(1, target.name, "initial", 1)
    found = measure_trial(trial, target.url, target.key, 120, set() if seen is None else seen, target.headers)
    target.note_start(found.start_kind)
    return found


def bench(cloud: Cloud, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m bench`, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=REPOSITORY, env=shell(cloud, **environment), text=True,
        capture_output=True, timeout=160, check=False,
    )  # fmt: skip


def shell(cloud: Cloud, **environment: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
    return {**ours, "PYTHONPATH": str(REPOSITORY), **cloud.env, **KEYS, "DORMOUSE_DATA": "/nonexistent", **environment}


def window(cloud: Cloud) -> int:
    return int(cloud.pool(APP, "Worker.*").settings.scaledown_window)


def test_primed_and_then_measured_with_each_cold_start_proven(served: Cloud, tmp_path: Path) -> None:
    words = ("prime", "--mode", "huggingface", "--restores", "2", "--max-starts", "5", "--settle", "0")
    primed = bench(served, *words)
    assert primed.returncode == 0, primed.stdout + primed.stderr
    rows = [line.split(": ")[1].split(",")[0] for line in primed.stdout.splitlines() if line.startswith("hf ")]
    assert rows == ["created", "restored", "restored"]
    assert (
        "2 of 2 restored" in primed.stdout
        and "(L40S, with 4 cores and 16 GiB at $2.27 an hour). Primed" in primed.stdout
    )
    assert served.containers(APP) == [], "it is left at zero"

    words = ("--mode", "huggingface", "--num-warmup", "2", "--test-scaledown", "--repetitions", "1")
    measured = bench(served, *words, "--modal", "--out", str(tmp_path))
    assert measured.returncode == 0, measured.stdout + measured.stderr
    found = json.loads((tmp_path / "cold_start_results_hf.json").read_text())
    samples = found["samples"]
    cold = [sample for sample in samples if sample["kind"] != "warm"]
    assert [(sample["start_kind"], sample["verified"]) for sample in cold] == [("restored", True)] * 2
    assert [sample["boot_requests"] for sample in samples] == [1, 2, 3, 1]
    assert len({sample["boot_id"] for sample in cold}) == 2 and found["complete"]
    assert found["summary"]["targets"]["hf"]["title"].startswith(f"{APP} on Modal at http://127.0.0.1")
    secrets = ("admin", *PROXY_TOKEN)
    assert not any(secret in (tmp_path / "cold_start_results_hf.json").read_text() for secret in secrets)


@pytest.mark.long
def test_a_deployment_without_snapshots_is_plain_and_never_primed(served: Cloud, tmp_path: Path) -> None:
    done = served.deploy("tests/modal/apps/unsnapped.py", env=EMBEDDER)
    assert done.returncode == 0, done.stdout + done.stderr
    primed = bench(served, "prime", "--mode", "huggingface", "--app", "unsnapped", "--max-starts", "1")
    assert primed.returncode == 1 and "1 plain" in primed.stdout and "`modal deploy` does" in primed.stdout
    words = ("--mode", "huggingface", "--num-warmup", "0", "--repetitions", "1", "--out", str(tmp_path))
    assert bench(served, *words, "--modal", "unsnapped").returncode == 0
    found = json.loads((tmp_path / "cold_start_results_hf.json").read_text())
    assert [(one["start_kind"], one["verified"]) for one in found["samples"]] == [("plain", True)]


def test_the_worker_ends_by_itself_and_a_start_is_not_made_for_that(target: ModalServer, served: Cloud) -> None:
    past = len(served.past)
    heard: list[str] = []
    target.scale_down(heard.append)
    assert heard == [] and len(served.past) == past and not served.containers(APP), "nobody is woken to be put to sleep"
    assert ask(target).outcome == "ok" and target.count_containers() == 1
    target.scale_down(heard.append)
    assert heard[0] == "asking its worker to end" and target.count_containers() == 0
    served.until(lambda: served.past[-1].code == 0)


@pytest.mark.parametrize("admin", ["", "wrong"])
def test_without_its_admin_key_the_containers_are_stopped(admin: str, target: ModalServer, served: Cloud) -> None:
    target._admin = admin
    assert ask(target).outcome == "ok"
    heard: list[str] = []
    target.scale_down(heard.append)
    assert "having its containers stopped" in heard and served.containers(APP) == []
    assert ("its worker answered 401: having its containers stopped by Modal instead" in heard) == (admin == "wrong")


def test_the_window_is_the_last_way_only_after_a_restore_and_put_back(target: ModalServer, served: Cloud) -> None:
    target._admin = ""
    served.fail("ContainerStop", Status.PERMISSION_DENIED, "this token stops nothing")
    try:
        assert ask(target).outcome == "ok"
        target._restores = False
        windows: list[int] = []
        with pytest.raises(TargetError, match="Modal still holds a container"):
            target.scale_down(lambda _: windows.append(window(served)))
        assert set(windows) == {60}, "a window of two seconds may end what is writing its snapshot"
        target._restores = True
        target.scale_down(lambda _: windows.append(window(served)))
        assert target.count_containers() == 0 and SHORTEST_S in windows and window(served) == 60
    finally:
        served.mend("ContainerStop")


def test_ctrl_c_in_the_middle_puts_the_window_back(target: ModalServer, served: Cloud) -> None:
    target._admin, target._restores = "", True
    served.fail("ContainerStop", Status.PERMISSION_DENIED, "this token stops nothing")
    try:
        assert ask(target).outcome == "ok"

        def interrupt(_: str) -> None:
            if window(served) == SHORTEST_S:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            target.scale_down(interrupt)
        assert window(served) == 60
        served.fail("FunctionUpdateSchedulingParams", Status.PERMISSION_DENIED, "no")
        with pytest.raises(TargetError, match="was 60 s, may be 2 s now, and could not be put back"):
            target.scale_down(lambda _: None)
    finally:
        served.mend("ContainerStop")
        served.mend("FunctionUpdateSchedulingParams")


def test_sigterm_in_the_middle_puts_the_window_back(target: ModalServer, served: Cloud) -> None:
    """A worker that somebody keeps busy, so that it does not go: `prime` waits for it, and is told to end."""
    ended = threading.Event()
    seen: set[str] = set()

    def keep_busy() -> None:
        while not ended.is_set():
            ask(target, seen)

    script = (
        "import bench.coldstart.modal_target as m\n"
        "m.ModalServer._restores = property(lambda s: True, lambda s, v: None)\n"
        "from bench.__main__ import main; raise SystemExit(main())"
    )
    assert ask(target).outcome == "ok"
    busy = threading.Thread(target=keep_busy)
    busy.start()
    served.fail("ContainerStop", Status.PERMISSION_DENIED, "this token stops nothing")
    process = subprocess.Popen(
        [sys.executable, "-c", script, "prime", "--mode", "huggingface"], cwd=REPOSITORY, text=True,
        env=shell(served, DORMOUSE_ADMIN_KEY=""), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        served.until(lambda: process.poll() is not None or window(served) == SHORTEST_S)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)
        assert process.returncode == 130 and "stopped" in output[1], output
        assert window(served) == 60
    finally:
        process.kill()
        ended.set()
        busy.join()
        served.mend("ContainerStop")


def test_one_that_is_kept_up_never_comes_to_zero(
    target: ModalServer, served: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.coldstart.modal_target.LEAVE_S", 0.5)
    target._function.autoscaler.update(min_containers=1)
    try:
        served.until(lambda: target.count_containers() == 1)
        with pytest.raises(TargetError, match="never comes to zero: it is deployed with min_containers=1"):
            target.scale_down(lambda _: None)
    finally:
        target._function.autoscaler.update(min_containers=0)


def test_it_is_left_alone_while_it_writes_its_snapshot(target: ModalServer) -> None:
    target._settle_s = 1.2
    heard: list[str] = []
    target.note_start("created")
    began = time.monotonic()
    target.scale_down(heard.append)
    assert time.monotonic() - began >= 1.2 and heard[0] == "leaving it the time to write its snapshot, 1 s left"
    heard.clear()
    target.note_start("restored")
    target.scale_down(heard.append)
    assert heard == []


def test_a_start_that_takes_longer_than_modal_waits_is_picked_up_later(tmp_path: Path) -> None:
    with Cloud(redirect_after_s=0.4) as cloud:
        cloud.secrets["dormouse"] = SECRET
        assert cloud.deploy("serving/serve_hf_snapshot.py", env=EMBEDDER).returncode == 0
        with cloud.client():
            found = ask(ModalServer("hf", APP, Keys("api", "admin", HEADERS)))
    assert (found.outcome, found.start_kind, found.boot_requests) == ("ok", "created", 1)
    assert found.failed_tries["http_303"] >= 2, "each of them was waited out, and the request was made once"


def test_who_has_no_proxy_token_is_turned_away_and_wakes_nobody(served: Cloud) -> None:
    past = len(served.past)
    with served.client():
        stranger = ModalServer("hf", APP, Keys("api", "admin", {}))
        assert ask(stranger).outcome == "http_401"
    assert len(served.past) == past and not served.containers(APP)


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (("--modal", "nobody"), {}, "nobody is not deployed, or no server of ours: `modal app list` shows"),
        (("--mode", "vllm", "--modal"), {}, "run `modal deploy serving/serve_vllm_snapshot.py`"),
        (("--modal",), {"MODAL_TOKEN_SECRET": "wrong"}, "Modal refused the token"),
        (("--modal",), {"MODAL_TOKEN_ID": ""}, "run `python -m modal setup`"),
        (("--modal",), {"DORMOUSE_MODAL_SECRET": ""}, "belong together"),
        (("--modal", "--url", "http://127.0.0.1:9"), {}, "give no address beside it"),
        (("--mode", "builtin", "--modal"), {}, "--modal is for --mode huggingface, vllm or both"),
        (("--mode", "both", "--modal", "x"), {}, "does not say which of them it is"),
    ],
)
def test_what_cannot_be_measured_is_said(
    words: tuple[str, ...], environment: dict[str, str], said: str, served: Cloud, tmp_path: Path
) -> None:
    done = bench(served, "--mode", "huggingface", *words, "--out", str(tmp_path), **environment)
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_prices_of_the_account_by_the_second(served: Cloud) -> None:
    with served.client():
        with pytest.raises(AccountError, match="other names"):
            prices.fetch_rates()
        assert prices.fetch_rates_or_list()[0] is LISTED
        told = {"gpu_hour_cost_l40s": "1.8", "gpu_hour_cost_a10g": "1.10", "cpu_hour_cost": "0.036"}
        served.rates.update({**told, "mem_gib_hour_cost": "0.0072", "gpu_hour_cost_unheard_of": "9"})
        rates = prices.fetch_rates()
        assert rates.gpu == {"L40S": 0.0005, "A10": pytest.approx(1.1 / 3600), "none": 0.0}
        assert (rates.core, rates.gib) == (pytest.approx(1e-5), pytest.approx(2e-6))
        assert prices.price_machine("L40S", cores=4, memory_gib=16, rates=rates).per_s == pytest.approx(0.000572)
        with pytest.raises(ValueError, match="no price is known for 'H100'"):
            prices.price_machine("H100", rates=rates)
        for wrong in ("-1", "NaN", "1e9"):
            served.rates["cpu_hour_cost"] = wrong
            with pytest.raises(AccountError, match="other names"):
                prices.fetch_rates()
    served.rates["cpu_hour_cost"] = "0.036"
    with served.client():
        assert modal_account.has_token()
        found, rate, note = cost_panel.use_account_prices("L40S")
        assert rate == 1.8 and found.gpu["L40S"] == 0.0005 and "this account&#39;s rates" in note
    words = ("cost", "--requests-per-day", "10", "--duration", "5", "--start", "15", "--live-prices")
    asked = bench(served, *words)
    assert asked.returncode == 0 and "L40S at $1.800 an hour (this account's rates" in asked.stdout, asked.stderr
    without = bench(served, *words, MODAL_TOKEN_ID="")
    assert "L40S at $1.951 an hour (Modal's price list" in without.stdout
    assert "prices are those of the list of 2026-11-23: no token" in without.stderr
