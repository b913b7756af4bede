"""Servers side by side: what is started for each name, and a server that does not start is a row."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import build_parser
from bench.speed import gpu_servers
from bench.speed.load import LoadResult, LoadTarget
from serving.http.child_server import ProcessFailed
from tests.support.embedding_servers import answer, server

pytestmark = pytest.mark.process


def parse(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["gpu", *words])


def test_a_server_that_does_not_start_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    def launch(name: str) -> gpu_servers.Server:
        if name == "vllm":
            raise ProcessFailed("x" * 3000 + "no GPU")
        return "http://here", (LoadTarget("a", "b", tmp_path), LoadTarget("a", "c", tmp_path))

    result: dict[str, Any] = {}
    said: list[str] = []
    servers = gpu_servers.start_servers(parse().servers.split(","), launch, result, said.append)
    assert list(servers) == ["bigemma3"] and result["bigemma3"]["start_to_first_page_s"] >= 0
    assert result["vllm"]["failed"].endswith("no GPU") and len(result["vllm"]["failed"]) == 2000
    assert any(line.startswith("vllm failed: ") and line.endswith("no GPU") for line in said)


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    starting = gpu_servers.start_server("nowhere", tmp_path, "cpu", tmp_path / "x", [b"jpeg"])
    with pytest.raises(ProcessFailed, match="nowhere"), starting:
        pass


def test_vllm_s_own_server_gets_chat_bodies_and_answers_one_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(answer()) as (address, bodies):

        @contextmanager
        def start_stock_server(*_: object) -> Iterator[str]:
            yield address

        monkeypatch.setattr(gpu_servers, "start_stock_server", start_stock_server)
        with gpu_servers.start_server("vllm-serve", tmp_path, "cuda", tmp_path / "x", [b"a", b"b"]) as (url, targets):
            assert url == address and [target.path for target in targets] == ["/v1/embeddings"] * 2
            sent = [len(list(target.bodies.iterdir())) for target in targets]
    assert sent == [2, gpu_servers.QUERIES] and json.loads(bodies[0])["model"] == "stock" and len(bodies) == 1


def test_weights_that_cannot_be_made_are_told(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"random weights were not made:(.|\n)*invalid choice: 'huge'"):
        gpu_servers.make_weights(tmp_path, "huge", "cpu", print)


def test_each_number_of_clients_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[str, int, float]] = []

    def run_clients(target: LoadTarget, clients: int, seconds: float, gap_s: float = 0.0) -> LoadResult:
        runs.append((target.path, clients, seconds))
        return LoadResult(clients, seconds, [1.0, 3.0], [], ["a", "b"])

    monkeypatch.setattr("bench.speed.load.run_clients", run_clients)
    monkeypatch.setattr(gpu_servers.time, "sleep", lambda _: None)
    targets = LoadTarget("u", "pages", tmp_path), LoadTarget("u", "queries", tmp_path)
    figures = gpu_servers.measure_server("x", *targets, parse("--seconds", "4"), print)
    assert [row["clients"] for row in figures["pages"]] == [1, 8, 32] == [row["clients"] for row in figures["queries"]]
    assert ("pages", 1, 2.0) in runs and ("queries", 32, 4.0) in runs, "one client is measured half as long"
    during = figures["queries_during_ingest"]
    assert (during["samples_ms"], during["server_timings"], during["pages_per_s"]) == ([1.0, 3.0], ["a", "b"], 0.2)
    assert ("pages", 32, 13.0) in runs and ("queries", 1, 10.0) in runs
    quick = gpu_servers.measure_server("x", *targets, parse("--quick"), print)
    assert [row["clients"] for row in quick["pages"]] == [32]
