"""BiGemma3 on vLLM: its engine in this process, by its Python API, behind our own routes, limits and prompts.

There is no HTTP server of vLLM and none of its routes. Prompts go in as token ids and pages as squares, so that both
servers of BiGemma3 see the same input. vLLM batches by itself, so every request goes in alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.documents.page import Page
from serving.embedders.base import Lanes, PageResult, Vectors
from serving.embedders.bigemma3.base import BiGemma3Base
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.embedders.bigemma3.tokens import MAX_QUERY_TOKENS, PromptTokens
from serving.embedders.bigemma3.vllm_engine import Answer, VllmEngine
from serving.errors import ServingError
from serving.settings import MiB, Settings

RECIPE = "1"
"""Part of the fingerprint: count it up whenever the same page or query would get another vector."""
AT_ONCE = 32
"""Requests that vLLM has at once. A GPU is full with 16 pages; queries are let in beside them."""
MAX_TOKENS = 2 * MAX_QUERY_TOKENS
"""Tokens of one prompt. A page has 256 of its image and a dozen more."""
STEP_TOKENS = 8192
"""Tokens of all prompts of one step: thirty pages."""
KV_CACHE_BYTES = 2048 * MiB
"""32 pages of 270 tokens take 1.2 GB of it. Without a figure vLLM would take nearly all of the GPU's memory."""
MUST_BE_FREE = 0.1
"""Share of the GPU's memory. vLLM refuses to start with less; its own 0.9 leaves no room for a second server."""


class PromptError(ServingError):
    """vLLM's own processing made another prompt than the one that was asked for."""

    code = "prompt"


class VllmEmbedder(BiGemma3Base):
    """BiGemma3 in vLLM's engine."""

    title = "BiGemma3 (vLLM)"

    def __init__(self, settings: Settings) -> None:
        """Look at the weights; imports neither vLLM nor torch. Raises WeightsError."""
        super().__init__(settings)
        self.lanes = Lanes(page_batch=1, page_workers=AT_ONCE, query_batch=4, query_workers=8)
        # The device is part of it: on a CPU, vLLM computes in float32 and attends causally inside an image.
        recipe = hashlib.sha256(f"{self.checkpoint.digest}\n{RECIPE}\n{self.device}".encode()).hexdigest()
        self.fingerprint = f"bigemma3-vllm-{recipe[:16]}"
        # Asleep, its weights are in its engine's own memory: too much for a file, and none of it is read again.
        self.backends: tuple[str, ...] = ("cuda",) if self.device == "cuda" else ()
        self.waking_bytes = 2 * self.checkpoint.parameters + KV_CACHE_BYTES if self.device == "cuda" else 0
        self._engine = VllmEngine(build_engine_arguments(self.checkpoint, settings), self.device)

    def load(self) -> None:
        self._tokens = PromptTokens(self.checkpoint.path)
        self._page_prompt = self._tokens.make_page()
        self._engine.start()

    def warm_up(self) -> None:
        """Run a request of each kind: the first compiles kernels and allocates what later ones reuse."""
        self.probe()

    def sleep(self) -> None:
        self._engine.sleep()

    def wake(self) -> None:
        self._engine.wake()

    def close(self) -> None:
        self._engine.close()

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]:
        squares = [self.make_square(page) for page in pages]
        filling = self._tokens.make_page_to_fill()
        answers = self._engine.embed_all(
            [{"prompt_token_ids": filling, "multi_modal_data": {"image": square}} for square in squares]
        )
        if any(answer.prompt != self._page_prompt for answer in answers):
            raise PromptError("vLLM made another prompt of this page than BiGemma3 was trained with")
        return [PageResult(vector) for vector in normalise_answers(answers)]

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        prompts = [{"prompt_token_ids": ids} for ids in self._tokens.make_queries(queries)]
        return normalise_answers(self._engine.embed_all(prompts))


def build_engine_arguments(checkpoint: Checkpoint, settings: Settings) -> dict[str, Any]:
    """Return the arguments of vLLM's AsyncEngineArgs (0.26 and 0.32)."""
    cuda = settings.device == "cuda"
    memory = {"kv_cache_memory_bytes": KV_CACHE_BYTES, "gpu_memory_utilization": MUST_BE_FREE} if cuda else {}
    return {
        **memory,
        "model": str(checkpoint.path),
        "runner": "pooling",
        "convert": "embed",
        "dtype": "bfloat16" if cuda else "float32",
        "max_model_len": MAX_TOKENS,
        "max_num_seqs": AT_ONCE,
        "max_num_batched_tokens": STEP_TOKENS,
        "limit_mm_per_prompt": {"image": 1},
        "mm_processor_cache_gb": 0,  # pages come once; after a sleep its two halves would differ
        "enable_prefix_caching": False,
        "enable_sleep_mode": cuda,  # elsewhere vLLM refuses to start with it
        "enforce_eager": settings.vllm_eager or not cuda,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        # Checkpoints saved by colpali-engine say BiGemma3, which vLLM does not know.
        "hf_overrides": {"architectures": ["Gemma3ForConditionalGeneration"]},
        "worker_extension_cls": "serving.embedders.bigemma3.vllm_extension.Extension",
    }


def normalise_answers(answers: Sequence[Answer]) -> Vectors:
    """Return float32[n, dimension], L2-normalised here: norms in bfloat16 are off by 0.2 %."""
    vectors = np.stack([answer.vector for answer in answers])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
