"""BiGemma3 on HuggingFace's libraries: colpali-engine's model, run by our own loop (`bigemma3_model`).

Neither torch nor transformers is imported before `load`: the engine makes one of these only to know its name.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.documents.page import Page
from serving.embedders.base import Lanes, PageResult, Vectors
from serving.embedders.bigemma3.base import BiGemma3Base
from serving.embedders.bigemma3.batch_shapes import PAGE_BATCHES, QUERY_BATCHES
from serving.embedders.bigemma3.checkpoint import Checkpoint, WeightsError
from serving.embedders.bigemma3.tokens import PromptTokens
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


log = logging.getLogger(__name__)


class DeviceError(ServingError):
    """The GPU is not there, or has not enough memory."""

    code = "device"


class BiGemma3Embedder(BiGemma3Base):
    title = "BiGemma3 (HuggingFace)"

    def __init__(self, settings: Settings) -> None:
        """Raises WeightsError."""
        super().__init__(settings)
        self.fingerprint = compute_fingerprint(self.checkpoint)
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
        """Raises WeightsError, DeviceError."""
        prepare_environment(self.data)
        try:
            import torch
        except ImportError:
            raise WeightsError("BiGemma3 needs more packages: pip install 'dormouse-search[hf]'") from None
        if self.device == "cuda":
            check_gpu(torch, self.checkpoint)
        from serving.embedders.bigemma3 import cuda_graphs
        from serving.embedders.bigemma3 import model as bigemma3_model

        self._tokens = PromptTokens(self.checkpoint.path)
        loaded = self._loaded()
        bigemma3_model.check_processor(self.checkpoint, self._tokens)
        model = bigemma3_model.BiGemma3Model(loaded, self._tokens, self.checkpoint)
        kind = cuda_graphs.EagerRunner if self._eager else cuda_graphs.GraphRunner
        self._runner = kind(model, self._tokens.pad, self.checkpoint.image_size)

    def _loaded(self) -> Any:
        """Return the model with its weights: on a GPU in memory that can be given back, if the files hold the weights
        in the type that the model computes in."""
        from serving.embedders.bigemma3 import model as bigemma3_model

        if not self.weight_files:
            return bigemma3_model.load_model(self.checkpoint, self.device)
        from serving.embedders.gpu.device_memory import GpuWeights

        planned = bigemma3_model.plan_tensors(self.checkpoint)
        self._weights = GpuWeights(planned)
        model = bigemma3_model.build_model_in_memory(self.checkpoint, planned, self._weights.memory)
        found = self._weights.fill()
        log.info("weights: %.2f GB in %.2f s, %.1f GB/s", found.bytes / 1e9, found.seconds, found.gb_per_s)
        return model

    def warm_up(self) -> None:
        self._running.warm_up()

    @property
    def compiled(self) -> int:
        """Return how many pieces of code this process has compiled: its restores take longer than those of a process
        that found them in the cache."""
        return 0 if self._runner is None else self._runner.compiled

    def sleep(self) -> None:
        """Give back the memory of weights and graphs.

        On a GPU their addresses, the compiled code and the graphs stay.
        """
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
        """Fill the weights in again.

        Raises WeightsError, NotReadyError without enough GPU memory; it then still sleeps.
        """
        if self._weights is None:
            self.load()
            return
        self._running.wake()
        found = self._weights.fill()
        self.copy_ms = found.seconds * 1000
        log.info("weights: %.2f GB in %.3f s, %.1f GB/s", found.bytes / 1e9, found.seconds, found.gb_per_s)

    def close(self) -> None: ...

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]:
        vectors = self._running.pages([np.asarray(self.square(page)) for page in pages])
        return [PageResult(vector) for vector in vectors]

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        assert self._tokens is not None
        return self._running.queries(self._tokens.queries(queries))

    @property
    def _running(self) -> Runner:
        assert self._runner is not None, "load first"
        return self._runner


def compute_fingerprint(checkpoint: Checkpoint) -> str:
    """Return the fingerprint of this embedder's vectors; vLLM's differs until parity has shown that both agree."""
    parts = f"{RECIPE} {checkpoint.digest}"
    return "bigemma3-hf-" + hashlib.sha256(parts.encode()).hexdigest()[:16]


def prepare_environment(data: Path) -> None:
    """Set what torch and transformers read when they are imported; call it before that.

    No progress bars in the log, and no hub: the checkpoint is on this machine by now. Compiled code is kept in `data`,
    because a restored snapshot needs its files again.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(data / "compiled" / "inductor"))
    os.environ.setdefault("TRITON_CACHE_DIR", str(data / "compiled" / "triton"))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # nor would a pool of threads
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool of processes would not survive a snapshot
    # Each is 10 to 15 ms more of a restore on an H200, and queries have queues of their own by their priority
    # (assets/runs/gpu-h200-connections.txt: 2 answer as many, and as soon during an ingest, as 32).
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "2")


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
