"""Becomes a container's process: it ends with the one that started it, gives way to it if asked to, and hears SIGINT
even where the tests themselves do not, as in the background of a shell.

`python launch.py NICENESS PARENT COMMAND...`
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        sys.exit("whoever started this container is gone")
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.nice(int(sys.argv[1]))
os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - no shell is meant
