from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.worker.process import bind_private_socket
from serving.worker.server import SWITCH_S, WorkerServer, prepare_server
from tests.support.scripted import Scripted
from tests.support.servers import make_settings


@pytest.mark.parametrize(("line", "parked"), [(b"", False), (b"park\n", True)])
def test_it_serves_until_control_ends_or_says_park(tmp_path: Path, line: bytes, parked: bool) -> None:
    embedder, told = Scripted(), dict[str, Any]()
    before = sys.getswitchinterval()
    worker, config = prepare_server(embedder, make_settings(tmp_path))
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    sys.setswitchinterval(before)
    worker.start()
    worker.asleep = True
    control, writing = os.pipe()
    path = tmp_path / "w.sock"

    def report(**facts: Any) -> None:
        told.update(facts)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # it listens by then
        if line:
            os.write(writing, line)
        else:
            os.close(writing)

    server = WorkerServer(config, worker, control, report, 0.0)
    asyncio.run(asyncio.wait_for(server.serve(sockets=[bind_private_socket(path)]), 20))
    assert worker.parked is parked and told["boot_id"] == worker.boot.id
    assert set(told["phases"]) == {"bind", "weights", "wake", "probe"} and len(told["probe"][0]) == 2560
    os.close(control)
    if line:
        os.close(writing)
