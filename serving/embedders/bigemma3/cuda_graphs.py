"""Runs BiGemma3's model: as it comes, or as CUDA graphs of fixed shapes on a GPU.

A graph is launched with one call, so the GPU waits for no Python, however busy the threads that decode pages are.
Queries have a stream and a memory pool of their own, with priority: the GPU schedules their blocks between those of a
page. A shape is captured when it is first needed; `warm_up` captures all of them before a snapshot.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from serving.embedders.base import Vectors
from serving.embedders.bigemma3 import batch_shapes
from serving.embedders.bigemma3.batch_shapes import rows_by_length, smallest_size
from serving.embedders.bigemma3.model import BiGemma3Model, pad_queries
from serving.embedders.gpu.device_memory import WorkingMemory
from serving.errors import NotReadyError

EXIT_GPU_FAILED = 3
RECOMPILE_LIMIT = 64
"""Shapes that one layer is compiled for; torch's own 8 would leave the ninth uncompiled."""
CAPTURE_BYTES = 1536 * 1024 * 1024
"""Working memory that one more graph may take: 8 pages take most of it."""
log = logging.getLogger(__name__)


class Runner(Protocol):
    """One way to run the model on batches of any size up to the largest shape."""

    def warm_up(self) -> None: ...

    def embed_pages(self, squares: Sequence[np.ndarray]) -> Vectors:
        """Return float32[n, dimension] for squares of uint8[side, side, 3]; at most batch_shapes.PAGE_BATCHES[-1]."""

    def embed_queries(self, ids: Sequence[Sequence[int]]) -> Vectors:
        """Return float32[n, dimension] for token ids."""

    @property
    def compiled(self) -> int:
        """Return how many pieces of code this process has compiled itself, rather than found in a cache."""
        return 0

    def sleep(self) -> None:
        """Give the working memory back. Until `wake`, nothing may be run."""
        return

    def wake(self) -> None:
        return


class EagerRunner(Runner):
    """Runs the model as it comes: on a CPU, or on a GPU where a quick start without compilation counts for more."""

    def __init__(self, model: BiGemma3Model, fill: int, side: int) -> None:
        self._model, self._fill, self._side = model, fill, side

    def warm_up(self) -> None:
        self.embed_pages([np.zeros((self._side, self._side, 3), np.uint8)])
        self.embed_queries([[self._fill] * 8])

    @torch.inference_mode()
    def embed_pages(self, squares: Sequence[np.ndarray]) -> Vectors:
        return self._model.embed_pages(torch.from_numpy(np.stack(squares)).to(self._model.device)).cpu().numpy()

    @torch.inference_mode()
    def embed_queries(self, ids: Sequence[Sequence[int]]) -> Vectors:
        filled, last = pad_queries(ids, len(ids), max(map(len, ids)), self._fill)
        device = self._model.device
        return self._model.embed_queries(filled.to(device), last.to(device)).cpu().numpy()


@dataclass(frozen=True, eq=False)
class CapturedGraph:
    """One shape's CUDA graph with the tensors that it reads and writes."""

    replay: Callable[[], None]
    inputs: tuple[Tensor, ...]
    output: Tensor


class GraphCache:
    """The graphs of one lane, captured when first needed. They share a stream and a memory pool, so they never overlap.

    One thread launches at a time; waiting for the result is outside of the lock, so that the next batch is launched
    before this one ends.
    """

    capturing = threading.Lock()

    def __init__(self, compute: Callable[..., Tensor], memory: WorkingMemory, priority: int) -> None:
        self._compute = compute
        self._memory = memory
        self._stream = torch.cuda.Stream(priority=priority)  # type: ignore[no-untyped-call]
        self._pool = memory.make_pool()
        self._graphs: dict[tuple[torch.Size, ...], CapturedGraph] = {}
        self._launching = threading.Lock()

    @torch.inference_mode()
    def run(self, count: int, *values: Tensor) -> Vectors:
        """Return the first `count` rows that `compute` makes of `values`, which are in pinned memory."""
        try:
            return self._run(count, values)
        except torch.OutOfMemoryError:
            raise NotReadyError("the GPU's memory is full: something else is using it", retry_after=5) from None
        except torch.AcceleratorError:
            # What failed on the GPU has ended all that this process has there; whoever started it sees that it is gone
            # and starts another one.
            log.exception("the GPU failed")
            logging.shutdown()
            os._exit(EXIT_GPU_FAILED)

    def _run(self, count: int, values: Sequence[Tensor]) -> Vectors:
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        with self._launching, torch.cuda.stream(self._stream):
            graph = self._find_graph(values)
            for there, here in zip(graph.inputs, values, strict=True):
                there.copy_(here, non_blocking=True)
            graph.replay()
            found = torch.empty((count, graph.output.shape[1]), dtype=torch.float32, pin_memory=True)
            found.copy_(graph.output[:count], non_blocking=True)
            done.record(self._stream)
        done.synchronize()
        return found.numpy().copy()  # pinned memory goes back at once

    def _find_graph(self, values: Sequence[Tensor]) -> CapturedGraph:
        key = tuple(value.shape for value in values)
        if key not in self._graphs:
            with self.capturing:
                self._graphs[key] = self._capture(values)
                gc.freeze()  # compiling leaves a million objects: looking through them would hold up a query
        return self._graphs[key]

    def _capture(self, values: Sequence[Tensor]) -> CapturedGraph:
        inputs = tuple(value.cuda() for value in values)
        for _ in range(2):  # compiles, and lets libraries choose and allocate: none of it may happen in a capture
            self._compute(*inputs)
        self._stream.synchronize()
        self._memory.make_room(CAPTURE_BYTES)
        graph = torch.cuda.CUDAGraph()
        # Other threads go on using the GPU meanwhile.
        pool: Any = self._pool.id
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
            output = self._compute(*inputs)
        return CapturedGraph(graph.replay, inputs, output)


class GraphRunner(Runner):
    """Runs the model as CUDA graphs, one for each shape of `batch_shapes`."""

    def __init__(self, model: BiGemma3Model, fill: int, side: int) -> None:
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        for layer in model.language.layers:
            layer.compile(dynamic=False)  # layer by layer: all of one kind are compiled once
        self._fill, self._side = fill, side
        self._memory = WorkingMemory()
        self._pages = GraphCache(model.embed_pages, self._memory, priority=0)
        self._queries = GraphCache(model.embed_queries, self._memory, priority=-5)

    def warm_up(self) -> None:
        for count in batch_shapes.PAGE_BATCHES:
            self.embed_pages([np.zeros((self._side, self._side, 3), np.uint8)] * count)
        for length in batch_shapes.QUERY_LENGTHS:
            for count in batch_shapes.QUERY_BATCHES if length <= batch_shapes.SHORT else (1,):
                self.embed_queries([[self._fill] * length] * count)
        self._memory.trim()

    @property
    def compiled(self) -> int:
        counters: Any = torch._dynamo.utils.counters
        return int(counters["inductor"]["fxgraph_cache_miss"])

    def sleep(self) -> None:
        torch.cuda.synchronize()
        self._memory.release()

    def wake(self) -> None:
        self._memory.restore()

    def embed_pages(self, squares: Sequence[np.ndarray]) -> Vectors:
        count = smallest_size(len(squares), batch_shapes.PAGE_BATCHES)
        pixels = torch.empty((count, self._side, self._side, 3), dtype=torch.uint8, pin_memory=True)
        np.stack(squares, out=pixels.numpy()[: len(squares)])
        return self._pages.run(len(squares), pixels)

    def embed_queries(self, ids: Sequence[Sequence[int]]) -> Vectors:
        found: list[Any] = [None] * len(ids)
        for length, rows in rows_by_length(ids).items():
            most = batch_shapes.QUERY_BATCHES[-1] if length <= batch_shapes.SHORT else 1
            for begin in range(0, len(rows), most):
                part = rows[begin : begin + most]
                count = smallest_size(len(part), batch_shapes.QUERY_BATCHES)
                filled, last = pad_queries([ids[row] for row in part], count, length, self._fill, pinned=True)
                vectors = self._queries.run(len(part), filled, last)
                for row, vector in zip(part, vectors, strict=True):
                    found[row] = vector
        return np.stack(found)
