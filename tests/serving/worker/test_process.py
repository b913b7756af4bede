from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engines import EngineProcess, vector


@pytest.mark.soak
def test_two_restores_of_one_snapshot_differ_in_all_that_must_differ(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        engine.ask()
        drawn = []
        for _ in range(3):
            engine.to_zero()
            answer = engine.ask("random")
            drawn.append((*vector(answer)[:3], answer.headers["X-Boot-Id"]))
        for values in zip(*drawn, strict=True):
            assert len(set(values)) == 3, "random, numpy, uuid and boot id are fresh after each restore"
