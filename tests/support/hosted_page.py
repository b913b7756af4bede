"""`python -m tests.support.hosted_page`: run a container's page with a double of its volume.

For `ServerProcess`. With DORMOUSE_STORE, its collections are there instead. Killed, it leaves what a container leaves:
what was committed. While the file `full` is there, the volume is full.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path

import onnxruntime  # noqa: F401 - before usearch, as in the container
import uvicorn

from serving.http.server import Server, bind_listener, format_address
from serving.library.backup import Backup
from tests.support.volumes import OnlyWriter, Volume
from ui.deploy.container import HostedPage


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--worker")
    options = parser.parse_args()
    volume = Volume(options.root / "volume", options.root / options.name / "mount")

    def commit() -> None:
        if (options.root / "full").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        volume.commit()

    del os.link  # a Modal Volume has no hard links
    stored = bool(os.environ.get("DORMOUSE_STORE"))
    backup = None if stored else Backup(volume.mount, commit, volume.reload, OnlyWriter())
    page = HostedPage(options.root / options.name / "disk", backup, [("scripted", options.worker)])
    page.open()
    listener = bind_listener("127.0.0.1", options.port)
    config = uvicorn.Config(page.gate, log_level="warning", ws="none", timeout_graceful_shutdown=2)
    server = Server(config, "Hosted page", format_address(listener), page.close)
    server.stop_with_stdin()
    server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
