"""The process of one worker: `python -m serving.worker.process`, started by a snapshot backend, not by hand.

It loads, warms up, records the probe and blocks on the control pipe. Everything up to there can be in a snapshot, so no
socket, no key and no thread of ours exists yet. The launch message brings all settings with their keys, fresh
random state and a new boot id; then the worker binds, sends the probe's vectors (the engine compares them) and serves
until control ends.

`--template`: control is a socket instead, and for each three pipes that come through it a child is forked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from serving.errors import ServingError
from serving.system.processes import die_with_parent, give_back_memory, list_threads
from serving.system.registers import list_permitted_registers, request_registers
from serving.system.timeouts import ms_since

T = TypeVar("T")
EXIT_FAILED = 1
LAUNCH_BYTES = 1024 * 1024
RANDOM_MODULES = {"numpy.random", "torch"}
"""Modules with a random state of their own, which `seed()` draws again."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.worker.process", description=__doc__)
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: Settings.known_at_load")
    parser.add_argument("--pipes", type=int, nargs=3, required=True, metavar=("CONTROL", "STATUS", "LOG"))
    parser.add_argument("--warm-up", action="store_true", help="run the model once, so that later starts need not")
    parser.add_argument("--sleeps", action="store_true", help="give the embedder's memory back until the launch")
    parser.add_argument("--template", action="store_true", help="fork a child for each three pipes sent to control")
    parser.add_argument("--dies-with-parent", action="store_true")
    options = parser.parse_args()
    if options.dies_with_parent:
        die_with_parent()
    control, status, log = options.pipes
    redirect_output(log)
    write_status(status, {"running": os.getpid()})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        warm_up, sleeps = options.warm_up or options.template, options.sleeps
        runtime = WorkerRuntime.prepare(options.embedder, options.settings, status, warm_up=warm_up, sleeps=sleeps)
    except ServingError as error:
        write_status(status, {"failed": error.message, "public": True})
        return EXIT_FAILED
    except Exception as error:
        logging.exception("the embedder did not start")
        write_status(status, {"failed": f"{type(error).__name__}: {error}", "public": False})
        return EXIT_FAILED
    if options.template:
        return serve_forks(runtime, socket.socket(fileno=control), status)
    return runtime.serve_launches(control, status)


def redirect_output(log: int) -> None:
    """Send standard output and error to the log pipe and close standard input: no terminal is inherited."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for descriptor in (nowhere, log):
        if descriptor > 2:
            os.close(descriptor)


def write_status(status: int, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(status, line) :]


def run_in_thread(work: Callable[[], T]) -> T:
    """Return the result of `work`, run in a thread that has ended by then.

    Native thread pools belong to the thread that first used them and end with it: a fork or a dump meets none.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="warm up") as pool:
        return pool.submit(work).result()


@contextmanager
def report_phase(status: int, name: str) -> Iterator[None]:
    """Report that a phase begins, and its milliseconds when it has ended without an error."""
    write_status(status, {"begins": name})
    began = time.perf_counter()
    yield
    write_status(status, {"phase": name, "ms": round(ms_since(began), 2)})


@dataclass
class WorkerRuntime:
    """A loaded worker and its app, before its first socket; `serve_launches` serves one launch, or several in turn."""

    worker: Any
    config: Any
    sleeps: bool
    registers: list[int]
    """What it may use of the CPU's large registers: a restored process has to ask again."""

    @classmethod
    def prepare(cls, name: str, given: Mapping[str, Any], status: int, *, warm_up: bool, sleeps: bool) -> WorkerRuntime:
        """Load the embedder and report that it is warm. Raises ServingError, and any error of the embedder."""
        gc.disable()  # nothing to collect while modules are imported; 5 to 10 % of a start
        with report_phase(status, "import"):
            from serving.embedders import base
            from serving.settings import Settings
            from serving.worker.server import prepare_server

            kind = base.find_embedder_class(name)
        settings = Settings(**given)
        embedder = kind(settings)
        with report_phase(status, "load"):
            run_in_thread(embedder.load)
        probe: list[list[float]] = []
        compiled = 0
        if warm_up:
            with report_phase(status, "warm_up"):
                run_in_thread(embedder.warm_up)
                probe = run_in_thread(embedder.probe).tolist()
                compiled = embedder.compiled if isinstance(embedder, base.GpuEmbedder) else 0
        worker, config = prepare_server(embedder, settings)
        if warm_up:
            with report_phase(status, "settle"):
                if sleeps:
                    run_in_thread(embedder.sleep)
                gc.collect()
                give_back_memory()
        gc.freeze()  # what was loaded is never looked at again: a collection would copy shared pages
        gc.enable()
        about = {"fingerprint": embedder.fingerprint, "probe": probe, "threads": list_threads(), "compiled": compiled}
        write_status(status, {"warm": about})
        return cls(worker, config, sleeps, list_permitted_registers())

    def serve_launches(self, control: int, status: int) -> int:
        """Wait for a launch message, serve until control ends, and return the exit code."""
        while line := read_launch_line(control):
            launch = json.loads(line)
            if "ping" in launch:  # a restored process runs again
                write_status(status, {"pong": os.getpid()})
                continue
            code, parked = self._serve_launch(launch, control, status)
            if not parked:
                return code
            self._park(status)
        return 0

    def _serve_launch(self, launch: dict[str, Any], control: int, status: int) -> tuple[int, bool]:
        """Return the exit code, and whether the process is to be parked for another launch."""
        began = time.perf_counter()
        request_registers(self.registers)
        reseed_random()
        from serving.settings import Settings
        from serving.worker.server import WorkerServer

        self.worker.start_boot(Settings(**launch["settings"]), launch["kind"])
        listener = bind_private_socket(Path(launch["socket"]))
        self.worker.asleep = self.sleeps

        def report(**facts: Any) -> None:
            write_status(status, {"serving": facts})

        server = WorkerServer(self.config, self.worker, control, report, began)
        try:
            asyncio.run(server.serve(sockets=[listener]))
        except ServingError as error:
            write_status(status, {"failed": error.message, "public": True})
            return EXIT_FAILED, False
        except SystemExit:  # uvicorn's, when the app's lifespan fails; it has been logged
            return EXIT_FAILED, False
        return 0, self.worker.parked

    def _park(self, status: int) -> None:
        """Return to the state before the first launch: asleep, no socket, no thread of ours, a new app ready."""
        from serving.worker.server import prepare_server

        embedder = self.worker.embedder
        run_in_thread(embedder.sleep)
        self.worker, self.config = prepare_server(embedder, self.worker.settings)
        gc.collect()
        give_back_memory()
        gc.freeze()
        write_status(status, {"parked": {}})


def read_launch_line(control: int) -> bytes:
    """Return a line from the pipe; empty if the engine closed it instead."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(control, LAUNCH_BYTES)
        if not part:
            return b""
        line += part
    return line


def reseed_random() -> None:
    """Seed all random states, so that workers of one snapshot differ; `uuid4` and `secrets` ask the system anyway."""
    random.seed()
    # A module that was not imported has no state yet; importing it would take longer than the rest of a launch.
    for module in RANDOM_MODULES & sys.modules.keys():
        sys.modules[module].seed()


def bind_private_socket(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, for this user only. Raises OSError."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(1024)
    return listener


def serve_forks(runtime: WorkerRuntime, control: socket.socket, status: int) -> int:
    """Fork a child for each three pipes that come. Returns when control ends; its children end with this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps them
    while True:
        word, pipes, _, _ = socket.recv_fds(control, 16, 3)
        if not word:
            return 0
        pid = os.fork()
        if pid == 0:
            run_forked_worker(runtime, control, status, pipes)
        for end in pipes:
            os.close(end)
        write_status(status, {"forked": pid})


def run_forked_worker(runtime: WorkerRuntime, control: socket.socket, status: int, pipes: list[int]) -> None:
    """Serve as a forked child and exit: it never returns into the code of the template."""
    code = EXIT_FAILED
    try:
        die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        control.close()
        os.close(status)
        own_control, own_status, own_log = pipes
        redirect_output(own_log)
        code = runtime.serve_launches(own_control, own_status)
    except BaseException:
        logging.exception("the forked worker failed")
    finally:
        exit_now(code)


def exit_now(code: int) -> None:
    """Exit without clean-up: native libraries whose threads were not restored hang or crash in theirs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__mp_main__":  # a process spawned by an embedder's library, such as vLLM's engine
    die_with_parent()
if __name__ == "__main__":
    exit_now(main())
