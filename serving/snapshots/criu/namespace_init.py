"""Process 1 of a namespace in which a worker is warmed up and then dumped by criu; the criu backend starts it.

It is small, because all of it runs before the model is imported; when it ends, its namespace and all in it end.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

FIRST_PID = 1000
"""The worker's number in its namespace; it is restored under the same one, where criu itself has the small ones."""
GO = b"dump"
EXIT_GONE = 3
POLL_S = 0.1


def main() -> int:
    """Run `namespace_init GO_FD PIPES... -- WORKER COMMAND... -- CRIU DUMP COMMAND...`."""
    first = sys.argv.index("--")
    second = sys.argv.index("--", first + 1)
    go, *pipes = (int(number) for number in sys.argv[1:first])
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(FIRST_PID - 1))
    # Opened in this mount namespace: criu finds no path for files of another one.
    nowhere = os.open(os.devnull, os.O_RDWR)
    worker = subprocess.Popen(  # noqa: S603 - the engine's own command
        sys.argv[first + 1 : second],
        stdin=nowhere,
        stdout=nowhere,
        stderr=nowhere,
        pass_fds=pipes,
        start_new_session=True,
    )
    for descriptor in pipes:
        os.close(descriptor)
    while not select.select([go], [], [], POLL_S)[0]:
        if worker.poll() is not None:
            return EXIT_GONE
    if worker.poll() is not None or os.read(go, len(GO)) != GO:  # the engine has ended
        return EXIT_GONE
    dump = [*sys.argv[second + 1 :], "--tree", str(worker.pid)]
    return subprocess.run(dump, stdin=nowhere).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
