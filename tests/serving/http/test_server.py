from __future__ import annotations

import argparse
import socket

import pytest

from serving.http.server import bind_listener, format_address, is_loopback, parse_port


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
        ("0.0.0.0", False), ("::", False),  # noqa: S104 - compared only
        ("192.168.0.1", False), ("localhost.example", False), ("", False),
    ],
)  # fmt: skip
def test_which_addresses_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_clients_that_come_before_the_server_runs_wait(host: str) -> None:
    if host == "::1" and not socket.has_dualstack_ipv6():
        host = "127.0.0.1"
    with bind_listener(host, 0) as listener:
        address, port = listener.getsockname()[:2]
        assert format_address(listener) == f"http://{'[::1]' if ':' in address else address}:{port}"
        with socket.create_connection((host, port), timeout=5):
            listener.accept()[0].close()
        with pytest.raises(OSError, match="in use"):
            bind_listener(host, port)


@pytest.mark.parametrize("text", ["", "-1", "65536", "1.5", "\u0663", "http", " 80"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a port"):
        parse_port(text)
    assert parse_port("0") == 0 and parse_port("65535") == 65_535
