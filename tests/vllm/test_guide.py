"""The deployment guide's two clients, as they stand there but for the address, against both servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vllm.conftest import Served, cosines
from tests.vllm.pictures import drawn

OPENAI = """
import requests
import base64
import io
from PIL import Image

# Encode image
img = Image.open("test.jpg")
buffered = io.BytesIO()
img.save(buffered, format="JPEG")
b64_img = base64.b64encode(buffered.getvalue()).decode("utf-8")

# Request embeddings
url = "https://your-deployment.modal.run"
payload = {
    "model": "bigemma3",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{b64_img}"}},
                {"type": "text", "text": "<start_of_image>"},
            ],
        }
    ],
    "encoding_format": "float",
}

response = requests.post(f"{url}/v1/embeddings", json=payload)
embeddings = response.json()["data"][0]["embedding"]
print(f"Embedding dimension: {len(embeddings)}")  # 2560
"""
FASTAPI = """
import requests
import base64
import io
from PIL import Image

# Encode image
img = Image.open("test.jpg")
buffered = io.BytesIO()
img.save(buffered, format="JPEG")
b64_img = base64.b64encode(buffered.getvalue()).decode("utf-8")

# Request embeddings
url = "https://your-deployment.modal.run"
payload = {
    "images": [b64_img],
    "texts": ["query text"],  # Optional
    "normalize": True
}

response = requests.post(f"{url}/embed", json=payload)
result = response.json()
print(f"Embeddings: {len(result['embeddings'])}")
print(f"Dimension: {result['dimension']}")  # 2560
"""


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`test.jpg` in the folder that the client runs in, and the JPEG that it will send."""
    drawn((620, 877), 3).save(tmp_path / "test.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "test.jpg"


def run(client: str, server: Served) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(client.replace("https://your-deployment.modal.run", server.url), names)  # noqa: S102 - our own text
    return names


@pytest.mark.parametrize("which", [0, 1], ids=["vllm", "hf"])
def test_the_openai_client(
    which: int, both: tuple[Served, Served], picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(OPENAI, both[which])
    assert "Embedding dimension: 2560" in capsys.readouterr().out
    wanted = both[which].embed(images=[names["buffered"].getvalue()])[0]
    assert cosines(np.asarray(names["embeddings"], np.float32), wanted) >= 0.99999


@pytest.mark.parametrize("which", [0, 1], ids=["vllm", "hf"])
def test_the_fastapi_client(
    which: int, both: tuple[Served, Served], picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(FASTAPI, both[which])
    assert capsys.readouterr().out == "Embeddings: 2\nDimension: 2560\n"
    wanted = both[which].embed(["query text"], [names["buffered"].getvalue()])
    assert cosines(np.asarray(names["result"]["embeddings"], np.float32), wanted).min() >= 0.99999
