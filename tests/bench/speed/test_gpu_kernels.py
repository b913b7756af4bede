"""What of the loop on the GPU needs no GPU: which graph is taken, and how a batch becomes a row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.speed import gpu_kernels
from bench.speed.gpu_kernels import find_graph, time_graphs, time_median
from serving.embedders.bigemma3 import batch_shapes


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the graphs that were replayed; there is no GPU to wait for."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return []


def make_graphs(replayed: list[str]) -> Any:
    """Graphs as the cache keeps them: by the shapes of their inputs, the batch first."""

    def lane(name: str, batches: tuple[int, ...]) -> SimpleNamespace:
        graphs = {
            ((count, 8), (count,)): SimpleNamespace(replay=lambda count=count: replayed.append(f"{name} {count}"))
            for count in batches
        }
        return SimpleNamespace(_graphs=graphs)

    return SimpleNamespace(_pages=lane("pages", (1, 2, 8)), _queries=lane("queries", batch_shapes.QUERY_BATCHES))


def test_a_graph_is_found_by_its_batch(replayed: list[str]) -> None:
    graphs = make_graphs(replayed)
    find_graph(graphs, "pages", 8).replay()
    find_graph(graphs, "queries", 1).replay()
    assert replayed == ["pages 8", "queries 1"]
    with pytest.raises(StopIteration):
        find_graph(graphs, "pages", 4)


def test_each_batch_is_a_row_of_its_lane(replayed: list[str]) -> None:
    rows = time_graphs(make_graphs(replayed), [1, 2])
    assert [row["batch"] for row in rows] == [1, 2, *batch_shapes.QUERY_BATCHES]
    assert ["pages_per_s" in row for row in rows[:3]] == [True, True, False] and "queries_per_s" in rows[-1]
    assert replayed.count("pages 2") == gpu_kernels.ROUNDS + 1, "the first round is not counted"


def test_a_median_is_of_the_rounds_after_the_first(replayed: list[str]) -> None:
    assert time_median(lambda: replayed.append("x"), rounds=3) >= 0 and len(replayed) == 4
