"""BiGemma3 on HuggingFace's libraries: colpali-engine's model, run by our own loop (`bigemma3_model`).

Neither torch nor transformers is imported before `load`: the engine makes one of these only to know its name.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.documents.page import Page
from serving.embedders.base import Lanes, PageResult, Vectors
from serving.embedders.bigemma3.base import BiGemma3Base
from serving.embedders.bigemma3.batch_shapes import PAGE_BATCHES, QUERY_BATCHES
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.embedders.bigemma3.tokens import PromptTokens
from serving.embedders.gpu.weight_arena import WeightsError
from serving.errors import ServingError
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.embedders.bigemma3.cuda_graphs import Runner
    from serving.embedders.gpu.device_memory import GpuWeights

RECIPE = "1"
"""Counted up whenever the same page or query would get another vector: it is part of the fingerprint."""
CONTEXT_BYTES = 900_000_000
"""GPU memory of the CUDA context, with the code of all kernels."""
WORKING_BYTES = 3_000_000_000
"""GPU memory beside the weights: the CUDA context, states of 8 pages, memory of the graphs."""
GPU_LANES = Lanes(
    page_batch=PAGE_BATCHES[-1], page_workers=2, query_batch=QUERY_BATCHES[-1], page_wait_s=0.004, query_wait_s=0.001
)
CPU_LANES = Lanes(page_batch=1, page_workers=1, query_batch=8)
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the checkpoint is on this machine by now
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    # Neither a pool of processes nor one of threads would survive a snapshot.
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Each is 10 to 15 ms more of a restore on an H200, and queries have queues of their own by their priority
    # (assets/runs/gpu-h200-connections.txt: 2 answer as many, and as soon during an ingest, as 32).
    "CUDA_DEVICE_MAX_CONNECTIONS": "2",
}
"""Read by torch and transformers when they are imported. Variables that are set already stay."""


class DeviceError(ServingError):
    """The GPU is not there, or has not enough memory."""

    code = "device"


class BiGemma3Embedder(BiGemma3Base):
    """BiGemma3 in this process, on a GPU or a CPU."""

    title = "BiGemma3 (HuggingFace)"

    def __init__(self, settings: Settings) -> None:
        """Find the checkpoint; imports neither torch nor transformers. Raises WeightsError."""
        super().__init__(settings)
        recipe = hashlib.sha256(f"{RECIPE} {self.checkpoint.digest}".encode()).hexdigest()
        self.fingerprint = f"bigemma3-hf-{recipe[:16]}"  # vLLM's differs until parity has shown that both agree
        self.data = settings.data.resolve()
        gpu = self.device == "cuda"
        self.lanes = GPU_LANES if gpu else CPU_LANES
        self.backends: tuple[str, ...] = () if gpu else ("criu",)  # torch's threads survive no fork
        if gpu and self.checkpoint.stored_as == {"BF16"}:
            self.backends = ("criu+cuda", "cuda")
            self.weight_files = self.checkpoint.files
            self.waking_bytes = 2 * self.checkpoint.parameters + WORKING_BYTES - CONTEXT_BYTES
        self._eager = settings.hf_eager or not gpu
        self._tokens: PromptTokens | None = None
        self._runner: Runner | None = None
        self._weights: GpuWeights | None = None

    def load(self) -> None:
        """Load the model. Raises WeightsError, DeviceError."""
        compiled = self.data / "compiled"  # a restored snapshot needs its files again
        folders = {"TORCHINDUCTOR_CACHE_DIR": compiled / "inductor", "TRITON_CACHE_DIR": compiled / "triton"}
        for name, value in (ENVIRONMENT | folders).items():
            os.environ.setdefault(name, str(value))
        try:
            import torch
        except ImportError:
            raise WeightsError("BiGemma3 needs more packages: pip install 'dormouse-search[hf]'") from None
        if self.device == "cuda":
            check_gpu(torch, self.checkpoint)
        from serving.embedders.bigemma3 import cuda_graphs
        from serving.embedders.bigemma3 import model as bigemma3_model

        self._tokens = PromptTokens(self.checkpoint.path)
        loaded = self._load_weights()
        bigemma3_model.check_processor(self.checkpoint, self._tokens)
        model = bigemma3_model.BiGemma3Model(loaded, self._tokens, self.checkpoint)
        kind = cuda_graphs.EagerRunner if self._eager else cuda_graphs.GraphRunner
        self._runner = kind(model, self._tokens.pad, self.checkpoint.image_size)

    def _load_weights(self) -> Any:
        """Return the model; on a GPU in memory that can be given back, if the files hold the type it computes in."""
        from serving.embedders.bigemma3 import model as bigemma3_model

        if not self.weight_files:
            return bigemma3_model.load_model(self.checkpoint, self.device)
        from serving.embedders.gpu.device_memory import GpuWeights

        planned = bigemma3_model.plan_tensors(self.checkpoint)
        self._weights = GpuWeights(planned)
        model = bigemma3_model.build_model_in_memory(self.checkpoint, planned, self._weights.memory)
        self._weights.fill()
        return model

    def warm_up(self) -> None:
        self._running.warm_up()

    @property
    def compiled(self) -> int:
        """Return how many pieces of code this process has compiled: its restores are slower than from the cache."""
        return 0 if self._runner is None else self._runner.compiled

    def sleep(self) -> None:
        """Give back the memory of weights and graphs; on a GPU addresses, compiled code and graphs stay."""
        if self._weights is None:
            self._runner = None
        else:
            self._running.sleep()
            self._weights.release()
        gc.collect()
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def wake(self) -> None:
        """Fill the weights in again. Raises WeightsError, NotReadyError without enough GPU memory: it still sleeps."""
        if self._weights is None:
            self.load()
            return
        self._running.wake()
        self.copy_ms = self._weights.fill() * 1000

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]:
        squares = [np.asarray(self.make_square(page)) for page in pages]
        return [PageResult(vector) for vector in self._running.embed_pages(squares)]

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        assert self._tokens is not None
        return self._running.embed_queries(self._tokens.make_queries(queries))

    @property
    def _running(self) -> Runner:
        assert self._runner is not None, "load first"
        return self._runner


def check_gpu(torch: object, checkpoint: Checkpoint) -> None:
    """Raise DeviceError if there is no GPU that torch can use, or not enough free memory on it."""
    cuda = torch.cuda  # type: ignore[attr-defined]
    if not cuda.is_available():
        raise DeviceError(
            "there is no NVIDIA GPU that torch can use: look at `nvidia-smi`, and at the torch that is installed, or"
            " use --device cpu, which takes minutes a page with the real weights"
        )
    needed = 2 * checkpoint.parameters + WORKING_BYTES
    free, total = cuda.mem_get_info()
    if free < needed:
        raise DeviceError(
            f"the GPU has {free / 1e9:.1f} GB free of {total / 1e9:.1f}; BiGemma3 needs {needed / 1e9:.1f}:"
            " end what else is using it (`nvidia-smi` tells), or take a larger one"
        )
