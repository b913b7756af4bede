"""The Cold starts tab without a browser: runs that it starts, how long it says they take, and files that it exports."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.__main__ import build_parser as bench_arguments
from serving.client import EmbeddingClient
from serving.cloud.credentials import Keys
from serving.errors import NotFoundError
from serving.library.library import Library
from serving.system.display_names import escape_cell
from tests.support.servers import ScriptedWorker
from ui.coldstart import tab
from ui.core.bench_runs import BenchRuns
from ui.servers import modal_target
from ui.servers.modal_target import ModalTarget
from ui.servers.state_feed import EngineStateFeed
from ui.servers.target import Target, Targets

APP = "bigemma3-hf-serve"


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[BenchRuns]:
    runs = BenchRuns(tmp_path / "data")
    yield runs
    runs.close()


class Started:
    """A double of `BenchRuns` that notes what it would start."""

    def start(self, target: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.given = (target, arguments, environment)


@pytest.mark.parametrize(("app", "mode"), [(APP, "huggingface"), ("bigemma3-vllm-serve", "vllm")])
def test_run_is_started_by_the_apps_name(tmp_path: Path, app: str, mode: str) -> None:
    targets = Targets([ModalTarget("M", app, Keys(), tmp_path)])
    service: Any = SimpleNamespace(targets=targets, runs=Started(), library=Library(tmp_path))
    tab.start_run(service, "M", tab.SERVER, 3, 5)
    target, arguments, _ = service.runs.given
    assert target == "M" and arguments[-4:] == ["--modal", app, "--mode", mode]
    options = bench_arguments().parse_args(arguments)
    assert options.modal == app and options.repetitions == 3
    assert "scaled down 6 times" in tab.render_estimate(targets.first, tab.SERVER, 3, 5)


def test_scaledown_goes_by_the_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []

    class Held:
        def __init__(self, name: str, app: str, access: Keys) -> None:
            asked.extend([name, app, access.admin])

        def scale_down(self, told: object) -> None:
            asked.append("down")

        def close(self) -> None:
            asked.append("closed")

    monkeypatch.setattr(modal_target, "ModalServer", Held)
    tab.scale_down(ModalTarget("M", APP, Keys(admin="key"), tmp_path))
    assert asked == ["hf", APP, "key", "down", "closed"]


def test_exports(runs: BenchRuns) -> None:
    service: Any = SimpleNamespace(runs=runs)
    rows = list(csv.DictReader(io.StringIO(tab.export_run(service, "builtin", "csv")[0].decode())))
    samples = json.loads(tab.export_run(service, "builtin", "json")[0])["samples"]
    assert len(rows) == len(samples) and rows[0]["boot_id"] == samples[0]["boot_id"]
    page, media = tab.export_run(service, "builtin", "html", "builtin")
    assert media.startswith("text/html") and page.startswith(b"<!doctype html>")
    assert escape_cell("=1+1") == "'=1+1" and escape_cell(-3.5) == -3.5


@pytest.mark.parametrize(
    ("what", "admin", "words"),
    [
        (tab.ENGINES, False, "About 21 s, 24 requests. It runs on this machine"),
        (tab.SERVER, True, "About 14 s, 12 requests. This server is scaled down 2 times"),
        (tab.SERVER, False, "About 2 min, 12 requests. This server is left alone for 65 s 2 times"),
    ],
)
def test_an_estimate_names_time_requests_and_effect(what: str, admin: bool, words: str) -> None:
    feed = EngineStateFeed((lambda: ("http://localhost:1", "key")) if admin else None)
    target = Target(EmbeddingClient("http://localhost:1"), "a", feed)
    found = tab.render_estimate(target, what, 1, 10)
    assert words in found and "billed" not in found
    away = Target(EmbeddingClient("https://far.example"), "b")
    assert "If its running time is billed, so is this." in tab.render_estimate(away, tab.SERVER, 1, 10)


def test_a_run_of_a_server_has_its_address_and_keys(scripted: ScriptedWorker, tmp_path: Path) -> None:
    feed = EngineStateFeed(lambda: (scripted.url, "of-the-engine"))
    targets = Targets([Target(EmbeddingClient(scripted.url, "key"), "a", feed)])
    service: Any = SimpleNamespace(targets=targets, runs=Started(), library=Library(tmp_path / "library"))
    tab.start_run(service, None, tab.SERVER, 2, 1, test_scaledown=False)
    name, arguments, environment = service.runs.given
    assert name == "a" and arguments[-4:] == ["--url", scripted.url, "--mode", "builtin"]
    assert "--test-scaledown" not in arguments
    assert environment == {"DORMOUSE_WORKER_KEY": "key", "DORMOUSE_ADMIN_KEY": "of-the-engine"}
    tab.start_run(service, "a", tab.ENGINES, 2, 1)
    assert "--url" not in service.runs.given[1] and service.runs.given[2] == {}
    service.library.close()


def test_a_server_without_an_admin_key_is_not_scaled_down() -> None:
    with pytest.raises(NotFoundError, match="DORMOUSE_ADMIN_KEY"):
        tab.scale_down(Target(EmbeddingClient("http://localhost:1")))


def test_nothing_is_shown_before_a_run(runs: BenchRuns) -> None:
    service: Any = SimpleNamespace(runs=runs)
    assert tab.render_progress(service, None) == "" and tab.render_samples(service, None).dots == ""
    with pytest.raises(NotFoundError):
        tab.export_run(service, "nobody", "csv")
