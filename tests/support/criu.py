"""Finds a criu for the tests, or gets one: `python -m tests.support.criu [FOLDER]`.

The one named in CRIU, else the one on PATH if it is new enough, else the one unpacked here before. As root on
Debian it gets one: the system's package if that is new enough, else trixie's, unpacked beside the system with the
libraries it was built for, so that nothing of the system changes. The mirror is the one that apt already uses.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".criu"
OLDEST = (4, 1)
RELEASE = "trixie"
PACKAGES = """
criu libcompel1 libc6 libprotobuf-c1 libnl-3-200 libnet1 libbsd0 libmd0 libgnutls30t64 libnftables1 libuuid1 libcap2
libunistring5 libhogweed6t64 libnettle8t64 libgmp10 libidn2-0 libp11-kit0 libtasn1-6 libffi8 libmnl0 libnftnl11
libxtables12 libjansson4 libedit2 libtinfo6
"""
ADVICE = (
    "no criu 4.1 or newer for the tests: install the package criu (Debian 13, Fedora), or as root on Debian run"
    " .venv-test/bin/python -m tests.support.criu"
)
REQUIRED = "TESTS_NEED_CRIU"
"""Set by .ci/run: without criu the tests that use it fail there, elsewhere they are skipped."""


@cache
def tool() -> str | None:
    """Path of a criu that is here and new enough."""
    for name in (os.environ.get("CRIU"), "criu", str(FOLDER / "criu")):
        path = shutil.which(name) if name else None
        if path is not None and version(path) >= OLDEST:
            return path
    return None


def version(path: str) -> tuple[int, int]:
    found = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20).stdout
    match = re.search(r"Version: (\d+)\.(\d+)", found)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def need() -> str:
    """For a test that uses it: not only there, but able to save and restore a process here."""
    import pytest

    path = tool()
    reason = ADVICE if path is None else unusable(path)
    if reason:
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(reason)
    assert path is not None
    return path


@cache
def unusable(path: str) -> str:
    """Why it does not work here, in the engine's own words; empty if it does."""
    from serving.settings import Settings
    from serving.snapshots.base import WorkerSpec
    from serving.snapshots.criu.backend import CriuBackend

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder), criu=path)
        support = asyncio.run(CriuBackend(settings, Path(folder)).probe(WorkerSpec("builtin", "", settings)))
    return "" if support.ok else support.reason


def install() -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg") and os.geteuid() == 0):
        return
    FOLDER.mkdir(exist_ok=True)
    for name in ("lists/partial", "cache/archives/partial"):
        (FOLDER / "apt" / name).mkdir(parents=True, exist_ok=True)
    sources = FOLDER / "apt" / "sources.list"
    sources.write_text(f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror()} {RELEASE} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/nonexistent",
        "Dir::State::lists": FOLDER / "apt" / "lists",
        "Dir::Cache": FOLDER / "apt" / "cache",
        "Dir::Cache::archives": FOLDER / "apt" / "cache" / "archives",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    run([*apt, "update"])
    debs = FOLDER / "debs"
    debs.mkdir(exist_ok=True)
    run([*apt, "download", *PACKAGES.split()], debs)
    for deb in sorted(debs.glob("*.deb")):
        run(["dpkg", "-x", str(deb), str(FOLDER / "root")])
    libraries = next((FOLDER / "root" / "usr" / "lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux*.so.*"))
    start = FOLDER / "criu"
    criu = FOLDER / "root" / "usr" / "sbin" / "criu"
    start.write_text(f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" "{criu}" "$@"\n')
    start.chmod(0o755)


def mirror() -> str:
    """Of Debian's packages, as this machine's apt has it. Raises StopIteration if there is none."""
    files = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    return next(re.finditer(r"https?://\S+/debian/?(?=\s)", text)).group(0)


def run(command: list[str], folder: Path | None = None) -> None:
    print("+", " ".join(command[:1] + command[-1:]), flush=True)
    subprocess.run(command, check=True, timeout=600, cwd=folder)


if __name__ == "__main__":
    if tool() is None:
        try:
            install()
        except (OSError, StopIteration, subprocess.SubprocessError) as error:
            print(f"criu could not be had: {error!r}", file=sys.stderr)
        tool.cache_clear()
    print(f"criu for the tests: {tool() or ADVICE}")
