"""Hearing what is changed in a database; that changes are told is in `test_changes`."""

from __future__ import annotations

import threading

import psycopg
import pytest

from serving.library import postgres_follower
from serving.library.postgres_follower import PostgresFollower
from tests.support.postgres import PostgresServer
from tests.support.waiting import until


def test_it_hears_until_it_is_closed(postgres: PostgresServer) -> None:
    heard: list[str] = []
    follower = PostgresFollower(postgres.address(), heard.append)
    follower.start()
    until(lambda: heard == [""], 30)
    postgres.run("SELECT pg_notify('dormouse', 'c-1')")
    until(lambda: heard == ["", "c-1"], 10)
    for (pid,) in postgres.run("SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN dormouse'"):
        postgres.run(f"SELECT pg_terminate_backend({pid})")
    until(lambda: heard == ["", "c-1", ""], 30)
    follower.close()
    assert not follower._thread.is_alive()


def test_a_server_that_cannot_be_reached_is_asked_again(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_follower, "PAUSE_S", 0.01)
    heard: list[str] = []
    tried = threading.Semaphore(0)
    real = psycopg.connect

    def connect(address: str, **options: object) -> object:
        tried.release()
        return real("postgresql://127.0.0.1:1/d" if tried._value < 3 else address, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(psycopg, "connect", connect)
    follower = PostgresFollower(postgres.address(), heard.append)
    follower.start()
    until(lambda: heard == [""], 30)
    follower.close()
    assert tried._value == 3


def test_where_nothing_is_told_anything_may_have_changed(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a server that follows another one."""
    monkeypatch.setattr(postgres_follower, "UNTOLD_S", 0.01)
    refused = psycopg.errors.ReadOnlySqlTransaction("cannot execute LISTEN during recovery")

    def refuse(*_: object) -> None:
        raise refused

    monkeypatch.setattr(PostgresFollower, "_listen", refuse)
    heard: list[str] = []
    follower = PostgresFollower(postgres.address(), heard.append)
    follower.start()
    until(lambda: heard[:3] == ["", "", ""], 30)
    follower.close()
