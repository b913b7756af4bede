"""BiGemma3 as its authors publish it: colpali-engine's own processor and forward pass, in this process, float32."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from serving.embedders import Vectors
from serving.embedders.bigemma3_model import load
from serving.embedders.checkpoint import Checkpoint
from serving.embedders.colpali import gemma


class Reference:
    def __init__(self, weights: Path) -> None:
        self.model = load(Checkpoint.read(weights), "cpu")
        self.processor = gemma().BiGemmaProcessor3.from_pretrained(weights)

    def query(self, text: str) -> Vectors:
        return self._embed(self.processor.process_texts([text]))

    def query_ids(self, text: str) -> list[int]:
        found: list[int] = self.processor.process_texts([text])["input_ids"][0].tolist()
        return found

    def page_ids(self) -> list[int]:
        found: list[int] = self.processor.process_images([Image.new("RGB", (40, 30))])["input_ids"][0].tolist()
        return found

    def page(self, image: Image.Image, *, causal: bool) -> Vectors:
        """`causal`: without attention forward inside the image, which is all that vLLM's CPU backend can do."""
        inputs = self.processor.process_images([image])
        if causal:
            inputs["token_type_ids"] = torch.zeros_like(inputs["token_type_ids"])
        return self._embed(inputs)

    def _embed(self, inputs: Any) -> Vectors:
        with torch.inference_mode():
            return np.asarray(self.model(**inputs)[0].float().numpy(), dtype=np.float32)


def canonical(data: bytes) -> Image.Image:
    """What any reader makes of a picture: turned as it says, on white, in RGB. Not our own code, which is tested."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
