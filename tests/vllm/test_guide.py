"""The deployment guide's two clients, as they stand there but for the address, against both servers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.guide import FASTAPI, OPENAI, run
from tests.vllm.conftest import Served, cosines
from tests.vllm.pictures import drawn


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`test.jpg` in the folder that the client runs in, and the JPEG that it will send."""
    drawn((620, 877), 3).save(tmp_path / "test.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "test.jpg"


@pytest.mark.parametrize("which", [0, 1], ids=["vllm", "hf"])
def test_the_openai_client(
    which: int, both: tuple[Served, Served], picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(OPENAI, both[which].url)
    assert "Embedding dimension: 2560" in capsys.readouterr().out
    wanted = both[which].embed(images=[names["buffered"].getvalue()])[0]
    assert cosines(np.asarray(names["embeddings"], np.float32), wanted) >= 0.99999


@pytest.mark.parametrize("which", [0, 1], ids=["vllm", "hf"])
def test_the_fastapi_client(
    which: int, both: tuple[Served, Served], picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(FASTAPI, both[which].url)
    assert capsys.readouterr().out == "Embeddings: 2\nDimension: 2560\n"
    wanted = both[which].embed(["query text"], [names["buffered"].getvalue()])
    assert cosines(np.asarray(names["result"]["embeddings"], np.float32), wanted).min() >= 0.99999
