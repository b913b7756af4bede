"""The table of what a person waits, and the run that it is read from."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bench.results.record import RUNS
from ui.coldstart import waits


def test_the_recorded_run_is_shown() -> None:
    run = orjson.loads((RUNS / waits.FILE).read_bytes())
    shown = waits.render_table(RUNS)
    assert run["environment"]["time"][:10] in shown and f"{run['pages']:,} pages" in shown
    assert [wait["server_s"] for wait in run["slow_servers"]] == [0.5, 2.0, 15.0]
    for wait in run["slow_servers"]:
        first, final = wait["enter_to_first"], wait["enter_to_final"]
        assert f"{first['p95_ms'] / 1000:.2f} s" in shown and f"{final['p50_ms'] / 1000:.2f} s" in shown
        assert first["n"] == final["n"] >= 20 and first["p50_ms"] < final["p50_ms"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b'{"slow_servers": 3}', b'{"slow_servers": [{}]}'])
def test_a_run_of_another_shape_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / waits.FILE).write_bytes(content)
    assert waits.render_table(tmp_path) == ""
