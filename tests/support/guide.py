"""The deployment guide's two clients, as they stand there; run against a server of the tests."""

from __future__ import annotations

from typing import Any

ADDRESS = "https://your-deployment.modal.run"
IMAGE = """
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
"""
OPENAI = (
    IMAGE
    + """
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
)
FASTAPI = (
    IMAGE
    + """
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
)


def run(client: str, url: str) -> dict[str, Any]:
    """The names that the client has at its end. It reads `test.jpg` in the folder that it runs in."""
    names: dict[str, Any] = {}
    exec(client.replace(ADDRESS, url), names)  # noqa: S102 - our own text
    return names
