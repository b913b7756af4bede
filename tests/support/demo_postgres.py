"""`python -m tests.support.demo_postgres`: two pages on one PostgreSQL from a wheel, until Ctrl-C.

All of it is in a folder, to be found again by the next start. The server answers on this machine only, to who has the
password that is made for the folder.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg

from serving.http.child_server import ProcessFailed, ServerProcess
from serving.system.files import write_file
from serving.system.processes import interruptible
from tests.support.postgres import ACCOUNT, GUARD, change_owner, find_programs
from tests.support.waiting import until

START_S = 60.0
PAGES = 2


class DemoServer:
    """A server with its tables in a folder that stays."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "server"
        self._user = ACCOUNT if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Return the server's address once it answers. Raises OSError, CalledProcessError, AssertionError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock_alone(self._folder / "lock")
        if not (self._data / "PG_VERSION").exists():
            self._create()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "sh", find_programs() / "postgres", "-D", self._data, *words],
                stdin=subprocess.PIPE, stdout=log, stderr=log, user=self._user, cwd="/", start_new_session=True,
            )  # fmt: skip
        address = f"postgresql://dormouse:{self._password_file.read_text()}@127.0.0.1:{port}/postgres"
        until(lambda: self._answers(address), START_S)
        write_file(self._folder / "address", address.encode(), 0o600)
        return address

    @property
    def _password_file(self) -> Path:
        return self._folder / "password"

    def _create(self) -> None:
        """Make the tables' folder, whole or not at all."""
        password = secrets.token_urlsafe()
        write_file(self._password_file, password.encode(), 0o600)
        for_initdb, part = self._folder / "initdb", self._folder / "part"
        shutil.rmtree(part, ignore_errors=True)  # of a start that was killed
        part.mkdir(0o700)
        write_file(for_initdb, password.encode(), 0o600)
        change_owner(part)
        change_owner(for_initdb)
        options = ["-U", "dormouse", "--auth=scram-sha-256", f"--pwfile={for_initdb}", "--encoding=utf8", "--locale=C"]
        try:
            command = [find_programs() / "initdb", "-D", part, *options]
            subprocess.run(command, check=True, capture_output=True, text=True, user=self._user, cwd="/")
        finally:
            for_initdb.unlink()
        part.rename(self._data)

    def _answers(self, address: str) -> bool:
        assert self._process is not None and self._process.poll() is None, (self._folder / "log").read_text()
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        self._process.wait(START_S)
        (self._folder / "address").unlink(missing_ok=True)


def lock_alone(path: Path) -> None:
    """Hold a file until this process ends. Raises OSError where another one holds it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(f"this demo is running already, in {path.parent}") from None


def why_unreachable(folder: Path) -> str:
    """Return why root cannot give this folder to the server, "" where that can be done."""
    closed = [each for each in folder.parents if not each.stat().st_mode & stat.S_IXOTH]
    if os.geteuid() != 0 or not closed:
        return ""
    return (
        f"PostgreSQL does not run as root, and the user {ACCOUNT}, who runs it here instead, cannot go to {closed[0]}:"
        " run this as a user who is not root, or in a clone elsewhere"
    )


def main(argv: list[str] | None = None) -> int:
    """Run server and pages until Ctrl-C or SIGTERM, and return the exit code."""
    parser = argparse.ArgumentParser(description="Runs two pages on one PostgreSQL.")
    parser.add_argument("--folder", type=Path, default=Path(".postgres"))
    parser.add_argument("--port", type=int, default=7860, help="of the first page; the second has the next one")
    options = parser.parse_args(argv)
    folder = options.folder.resolve()
    if problem := why_unreachable(folder):
        print(problem, file=sys.stderr)
        return 2
    try:
        with interruptible():
            run(folder, options.port)
    except KeyboardInterrupt:
        return 0
    except subprocess.CalledProcessError as error:
        print(f"the server could not be made: {error.stderr}", file=sys.stderr)
    except AssertionError as error:
        print(f"the server did not start:\n{error}", file=sys.stderr)
    except (OSError, ProcessFailed) as error:
        print(error, file=sys.stderr)
    return 1


def run(folder: Path, port: int) -> None:
    """Run until a page ends, or KeyboardInterrupt. Raises as `start`, and ProcessFailed."""
    server = DemoServer(folder)
    with ExitStack() as stack:
        stack.callback(server.stop)
        store = {"DORMOUSE_STORE": server.start()}
        pages = []
        for number in range(PAGES):
            words = ["--no-browser", "--port", str(port + number), "--data", str(folder / f"page-{number + 1}")]
            pages.append(stack.enter_context(ServerProcess("ui.app", words, store)))
        urls = [page.wait() for page in pages]
        print("Two pages have the same collections, in one PostgreSQL:", *urls, sep="\n  ")
        print(f"What is added on one is found on the other: dormouse add FILES --page {urls[0]} --collection mine")
        print(f"For other programs: export DORMOUSE_STORE=$(cat {folder / 'address'})")
        print("Ctrl-C stops pages and server; the next start has the same collections.", flush=True)
        stack.callback(print, "stopping", flush=True)
        while all(page.running for page in pages):
            time.sleep(0.5)
        raise ProcessFailed("a page has ended, and so the demo does")


if __name__ == "__main__":
    sys.exit(main())
