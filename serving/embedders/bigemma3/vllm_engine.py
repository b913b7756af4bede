"""Runs vLLM's engine in this process: its asyncio side in a thread of its own, called from any other thread.

The model runs in a child, vLLM's EngineCore. It ends with this process, however that ends: a forked child asks the
system for it here, a spawned one in `serving.worker.process`. When it ends first, this process has nothing left to
serve.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from serving.embedders.base import Vectors
from serving.errors import NotReadyError, ServingError
from serving.system.processes import die_with_parent

T = TypeVar("T")
EXIT_ENGINE_ENDED = 3
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",  # the weights are here already
    "TRANSFORMERS_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",  # the engine is forked
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_HOST_IP": "127.0.0.1",  # its processes meet here, not on the network
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # nothing is sampled
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; CPU builds know only this
}
"""Read by vLLM when it is imported, here and in its children. Variables that are set already stay."""
log = logging.getLogger(__name__)


class EngineMissingError(ServingError):
    """vLLM is not installed, or not for this device."""

    code = "engine_missing"


class EngineEndedError(NotReadyError):
    """vLLM's engine has ended; its worker is about to be replaced."""

    code = "engine_ended"

    def __init__(self) -> None:
        super().__init__("the model's engine has ended and is started again: send the request again", retry_after=1)


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """`vector` is float32[hidden size], as vLLM's pooler left it; `prompt` are the token ids that the model saw."""

    vector: Vectors
    prompt: list[int]


class VllmEngine:
    """vLLM's engine: call `start` once, then the other methods from any thread."""

    def __init__(self, arguments: Mapping[str, Any], device: Literal["cpu", "cuda"]) -> None:
        """`arguments` are AsyncEngineArgs'."""
        self._arguments = arguments
        self._device = device
        self._closing = False
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._vllm: Any = None
        self._llm: Any = None
        self._sockets: Path | None = None

    def start(self) -> None:
        """Load the model; return when it is loaded. Raises EngineMissingError, and whatever vLLM raises."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._vllm = import_vllm(self._device)
        os.register_at_fork(after_in_child=die_with_parent)
        self._loop = asyncio.new_event_loop()
        # This thread's end would end the engine (die_with_parent): it lasts as long as the process.
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()
        self._wait(self._start())
        threading.Thread(target=self._watch, name="vllm watch", daemon=True).start()

    def embed_all(self, prompts: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Return one answer for each of vLLM's TokensPrompts. Raises EngineEndedError."""

        async def gather() -> list[Answer]:
            return list(await asyncio.gather(*(self._embed(prompt) for prompt in prompts)))

        return self._wait(gather())

    def sleep(self) -> None:
        """Move the weights to host memory and drop the KV cache; on a CPU the engine only stops taking work."""
        self._wait(self._llm.sleep(1))

    def wake(self) -> None:
        self._wait(self._llm.wake_up())

    def close(self) -> None:
        """Kill its processes and return when they are gone: until then they would hold the GPU's memory.

        vLLM's own shutdown takes five seconds; after this it only has to forget them.
        """
        self._closing = True
        logging.getLogger("vllm").setLevel(logging.CRITICAL)  # it would call this a failure
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        if self._llm is not None:

            async def forget() -> None:
                self._llm.shutdown()

            self._wait(forget())
            self._llm = None
            self._remove_sockets()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "start first"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self) -> None:
        args = importlib.import_module("vllm.engine.arg_utils").AsyncEngineArgs(**self._arguments)
        llm = importlib.import_module("vllm.v1.engine.async_llm").AsyncLLM
        self._sockets = Path(tempfile.mkdtemp(prefix="dormouse-vllm-"))
        os.environ["VLLM_RPC_BASE_PATH"] = str(self._sockets)
        try:
            self._llm = llm.from_engine_args(args)
        except BaseException:
            self._remove_sockets()
            raise

    def _remove_sockets(self) -> None:
        """Remove the names of vLLM's sockets, which it never does itself.

        Not before the first answer: the engine connects the socket for answers after it has reported to be ready, and
        without its name it would wait for ever.
        """
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    async def _embed(self, prompt: Mapping[str, Any]) -> Answer:
        try:
            (rendered,) = await self._llm.renderer.render_cmpl_async([prompt])
            wanted = self._vllm.PoolingParams(task="embed")
            async for found in self._llm.encode(rendered, wanted, request_id=str(next(self._numbers))):
                last = found
        except Exception:
            if self._llm.errored:
                raise EngineEndedError from None
            raise
        self._remove_sockets()
        return Answer(np.asarray(last.outputs.data.float(), dtype=np.float32), list(last.prompt_token_ids))

    def _watch(self) -> None:
        multiprocessing.connection.wait([child.sentinel for child in multiprocessing.active_children()])
        if not self._closing:
            # Whoever started this process sees that it has ended; requests in flight get a 503 from the proxy.
            log.error("vLLM's engine has ended")
            logging.shutdown()
            os._exit(EXIT_ENGINE_ENDED)


def import_vllm(device: Literal["cpu", "cuda"]) -> Any:
    """Return the module vllm. Raises EngineMissingError."""
    try:
        vllm = importlib.import_module("vllm")
        platform = importlib.import_module("vllm.platforms").current_platform
    except ImportError as error:
        log.warning("import vllm: %s", error)
        raise EngineMissingError("vLLM is not installed here: pip install 'dormouse-search[vllm]'") from None
    if device == "cuda" and not platform.is_cuda_alike():
        raise EngineMissingError("vLLM finds no GPU here: --device cpu needs vLLM's CPU build, and is for trying it")
    if device == "cpu" and not platform.is_cpu():
        raise EngineMissingError("this vLLM is built for GPUs: leave --device cpu out, or install vLLM's CPU build")
    return vllm
