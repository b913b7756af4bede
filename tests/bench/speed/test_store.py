"""The bench of search in PostgreSQL, on a small one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from tests.support.postgres import PostgresServer


def test_each_way_has_its_times_and_what_it_finds(
    postgres: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, address = tmp_path / "store.json", postgres.address(postgres.create_schema())
    command = ["store", "--store", address, "--pages", "400", "--dimension", "64", "--searches", "3"]
    assert main([*command, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["pages"], result["dimension"], result["top_k"]) == (400, 64, 10)
    assert set(result["searches"]) == {"plain", "folder", "type", "last half", "cut"}
    for ways in result["searches"].values():
        assert set(ways) == {"embedded", "exact", "hnsw", "binary"}
        assert all(found["n"] == 3 and found["p50_ms"] > 0 for found in ways.values())
        assert ways["exact"]["recall"] == 1 and ways["embedded"]["recall"] == 1
        assert ways["hnsw"]["recall"] > 0.9 and ways["binary"]["recall"] > 0.5
    assert set(result["build_s"]) == {"hnsw", "binary"} and result["server"]["pgvector"]
    assert set(result["mb"]) == {"embedded", "vectors", "hnsw", "binary"}
    said = capsys.readouterr().out
    assert "plain, hnsw: p50" in said and "recall@10" in said
    assert main(command) == 1
    assert "the store has collections" in capsys.readouterr().err


def test_a_store_must_be_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DORMOUSE_STORE", raising=False)
    assert main(["store"]) == 1
    assert "name a PostgreSQL" in capsys.readouterr().err
