"""The CPU's large registers, which Linux gives only to a process that asks for them: AMX's tiles, 8 KB a thread.

ONNX Runtime and oneDNN ask when they are loaded, and compute with them from then on. criu 4.2 does not ask again for a
process that it restores: its first matrix product would end it with an illegal instruction.
"""

from __future__ import annotations

import ctypes
import platform
import sys

ARCH_PRCTL = 158
"""The number of that system call on x86-64; the C library has no function for it."""
GET_PERMITTED, REQUEST = 0x1022, 0x1023
"""ARCH_GET_XCOMP_PERM and ARCH_REQ_XCOMP_PERM, Linux 5.16: docs.kernel.org, "Using XSTATE features in user space"."""
ON_REQUEST = (18,)
"""XTILEDATA: of the features that there are so far the only one for which a process has to ask."""


def list_permitted_registers() -> list[int]:
    """Return the features for which this process has asked; none where nothing has to be asked for."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return []
    found = ctypes.c_uint64(0)
    if ctypes.CDLL(None).syscall(ARCH_PRCTL, GET_PERMITTED, ctypes.byref(found)) != 0:
        return []  # an older kernel
    return [feature for feature in ON_REQUEST if found.value >> feature & 1]


def request_registers(features: list[int]) -> None:
    """Ask for these features again. Without one of them the first instruction that uses it ends the process."""
    for feature in set(features) - set(list_permitted_registers()):
        ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST, feature)
