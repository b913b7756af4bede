"""BiGemma3 as its authors publish it: colpali-engine's own processor and forward pass, in this process, float32."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from serving.embedders.base import Vectors
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.embedders.bigemma3.colpali_import import import_bigemma3
from serving.embedders.bigemma3.model import load_model


class Reference:
    def __init__(self, weights: Path) -> None:
        self.model = load_model(Checkpoint.read(weights), "cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the processor's, about its own defaults
            self.processor = import_bigemma3().BiGemmaProcessor3.from_pretrained(weights, local_files_only=True)

    def query(self, text: str) -> Vectors:
        return self.queries([text])[0]

    def queries(self, texts: Sequence[str], dimension: int = 2560) -> Vectors:
        """float32[n, dimension], filled up on the left."""
        return self._embed(self.processor.process_texts(list(texts)), dimension)

    def query_ids(self, text: str) -> list[int]:
        found: list[int] = self.processor.process_texts([text])["input_ids"][0].tolist()
        return found

    def page_ids(self) -> list[int]:
        found: list[int] = self.processor.process_images([Image.new("RGB", (40, 30))])["input_ids"][0].tolist()
        return found

    def page(self, image: Image.Image, *, causal: bool) -> Vectors:
        return self.pages([image], causal=causal)[0]

    def pages(self, images: Sequence[Image.Image], *, causal: bool = False) -> Vectors:
        """`causal`: without attention forward inside an image, which is all that vLLM's CPU backend can do."""
        inputs = self.processor.process_images(list(images))
        if causal:
            inputs["token_type_ids"] = torch.zeros_like(inputs["token_type_ids"])
        return self._embed(inputs)

    def _embed(self, inputs: Any, dimension: int = 2560) -> Vectors:
        with torch.inference_mode():
            return np.asarray(self.model(embedding_dim=dimension, **inputs).float().numpy(), dtype=np.float32)


def canonical(data: bytes) -> Image.Image:
    """What any reader makes of a picture: turned as it says, on white, in RGB. Not our own code, which is tested."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
