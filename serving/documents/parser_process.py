"""Runs parsers on untrusted files: `python -m serving.documents.parser_process`, started by `parser_pool`, not by hand.

A request is one JSON line on standard input: `{"task": "module:function", "arguments": {...}}`. The answer on standard
output is a frame: whether it is an error, two lengths, a JSON object, raw bytes. It is not pickle: a parser that a file
took over must not reach further than its own process. The first frame is empty and says that all modules are imported.

The process ends when its parent does, however that ends, even in the middle of a task: a thread waits for the other end
of standard input to close. PR_SET_PDEATHSIG would not work: it is sent when the thread that started us ends.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from serving.errors import ServingError

FRAME = struct.Struct(">?II")
"""Whether the JSON object is a ServingError's status and body; the lengths of the object and of the raw bytes."""
BEGUN = b"\1"
"""Comes before an answer, as soon as its task begins: a process that was killed while it waited costs no page."""
REQUEST_BYTES = 64 * 1024
"""A request is a path and some numbers; a pipe takes this much at once."""
IDLE_S = 30.0
"""Without a request for so long the process ends, with exit code 0: it holds 20 MB."""
MAX_TASKS = 200
"""After so many tasks it ends, so that memory that parsers leak is freed. A new process costs 0.1 s of CPU."""
MAX_KEPT_BYTES = 96 * 1024 * 1024
"""After a task that leaves more in memory it ends too: a drawing of a million strokes leaves 290 MB, a page of text 34
MB."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.documents.parser_process", description=__doc__)
    parser.add_argument("--memory", type=int, required=True, help="bytes of address space")
    parser.add_argument("modules", nargs="*", help="imported before the first request")
    options = parser.parse_args(argv)
    requests, answers = take_over_pipes()
    bound_resources(options.memory)
    threading.Thread(target=end_with_parent, args=(requests,), daemon=True).start()
    for module in options.modules:
        import_module(module)
    with suppress(BrokenPipeError):  # the process that asks was killed
        send_answer(answers, False, {}, b"")
        for request in islice(read_requests(requests), MAX_TASKS):
            os.write(answers, BEGUN)
            send_answer(answers, *run_task(json.loads(request)))
            if measure_resident_bytes() > MAX_KEPT_BYTES:
                break
    return 0


def take_over_pipes() -> tuple[int, int]:
    """Return descriptors of standard input and output, and put /dev/null there: a print must not become an answer."""
    pipes = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return pipes


def bound_resources(memory: int) -> None:
    """Limit the address space, write no core file, and let Linux kill this process first when memory is short."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    bound = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    with suppress(OSError):  # some containers have no such file
        Path("/proc/self/oom_score_adj").write_text("1000")


def measure_resident_bytes() -> int:
    """Return the process's resident memory in bytes; 0 on other systems than Linux."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def end_with_parent(requests: int) -> None:
    closed = select.poll()
    closed.register(requests, 0)  # reports only that the other end closed
    closed.poll()
    os._exit(0)


def read_requests(requests: int) -> Iterator[bytes]:
    """Yield requests one by one; end after IDLE_S without one."""
    while select.select([requests], [], [], IDLE_S)[0]:
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(requests, REQUEST_BYTES)
        yield line


def run_task(request: dict[str, Any]) -> tuple[bool, dict[str, Any], bytes | memoryview]:
    """Run a task and return its answer as `send_answer` takes it. Other errors than ServingError end the process."""
    module, _, function = request["task"].partition(":")
    try:
        facts, data = getattr(import_module(module), function)(**request["arguments"])
    except ServingError as error:
        return True, {"status": error.status, **error.body()}, b""
    return False, facts, data


def send_answer(answers: int, refused: bool, facts: dict[str, Any], data: bytes | memoryview) -> None:
    encoded = json.dumps(facts).encode()
    for part in (FRAME.pack(refused, len(encoded), len(data)) + encoded, data):
        left = memoryview(part)
        while left:
            left = left[os.write(answers, left) :]


if __name__ == "__main__":
    sys.exit(main())
