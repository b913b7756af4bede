"""One request to servers that answer well, badly and not at all: always a row, and cold only where it is proven."""

from __future__ import annotations

import json
import socket
import time
from http.server import BaseHTTPRequestHandler

import pytest

from bench.coldstart.plan import Trial, TrialKind
from bench.coldstart.sample import (
    NEW,
    NOT_OURS,
    STARTED_BEFORE,
    Sample,
    count_outcomes,
    explain_never_cold,
    measure_trial,
    record_unsent_trial,
    select_times,
)
from tests.support.embedding_servers import GOOD, Behaviour, answer, ours, server
from tests.support.servers import ScriptedWorker


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def half(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(GOOD)


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def ask(url: str, kind: TrialKind = "initial", seen: set[str] | None = None, timeout: float = 20) -> Sample:
    return measure_trial(Trial(1, "t", kind, 1), url, "", timeout, set() if seen is None else seen)


def asked(
    *behaviours: Behaviour, kind: TrialKind = "initial", seen: set[str] | None = None, timeout: float = 20
) -> Sample:
    with server(*behaviours) as (url, _):
        return ask(url, kind, seen, timeout)


def test_a_cold_answer_proves_itself_and_its_boot_is_remembered() -> None:
    seen: set[str] = set()
    timing = {"Server-Timing": "restore;dur=0.02, embed;dur=3.10", "X-Snapshot-Tier": "disk"}
    with server(ours("b7", "restored", **timing)) as (url, bodies):
        first, second = ask(url, "after_scaledown", seen), ask(url, "after_scaledown", seen)
    assert first.verified and first.counts_as_cold and not first.why_not and first.outcome == "ok"
    assert (first.boot_id, first.start_kind, first.boot_requests, first.tier) == ("b7", "restored", 1, "disk")
    assert first.server_ms == {"restore": 0.02, "embed": 3.1}
    assert first.client_ms > 0 and first.started.endswith("+00:00")
    assert not second.verified and second.why_not == "the same process answered before"
    assert bodies[0] == bodies[1] and json.loads(bodies[0])["texts"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (ours(kind="created"), "made the snapshot"),
        (ours(requests="3"), "its process had answered 2 before"),
        (ours(requests="-1"), NOT_OURS),
        (ours(requests="x"), NOT_OURS),
        (ours(kind="lukewarm"), "the start kind 'lukewarm' is not known"),
        (answer(), NOT_OURS),
        (ours(kind="restored", Server_Timing="restore;dur=60000.00, hold;dur=0.02"), STARTED_BEFORE),
        (ours(Server_Timing="start;dur=60000.00"), STARTED_BEFORE),
    ],
)
def test_what_proves_nothing_is_kept_with_the_reason(behaviour: Behaviour, reason: str) -> None:
    found = asked(behaviour)
    assert (found.outcome, found.verified, found.why_not) == ("ok", False, reason)
    assert found.client_ms > 0


def test_a_warm_request_is_never_verified_cold() -> None:
    warm, fresh = asked(ours(), kind="warm", seen={"b1"}), asked(ours("b2"), kind="warm", seen={"b1"})
    assert warm.counts_as_warm and not warm.verified
    assert not fresh.counts_as_warm and not fresh.verified and fresh.why_not == NEW
    assert asked(answer(), kind="warm").counts_as_warm, "another server's warm answers are still times"


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (answer(500), "http_500"),
        (answer(401), "http_401"),
        (answer(404), "http_404"),
        (answer(content=b"<html>"), "not_vectors"),
        (answer(content=b'{"embeddings":[[NaN]]}'), "not_vectors"),
        (answer(content=b'{"embeddings":[]}'), "not_vectors"),
        (answer(content=b'{"embeddings":[["a"]]}'), "not_vectors"),
        (answer(content=b"[]"), "not_vectors"),
        (ours(Server_Timing="a;dur=1.2.3"), "ok"),
    ],
)
def test_a_wrong_answer_is_a_row_at_once(behaviour: Behaviour, outcome: str) -> None:
    found = asked(behaviour)
    assert (found.outcome, found.retries) == (outcome, 0)
    assert found.verified == (outcome == "ok")


def test_a_server_that_is_not_there_yet_is_asked_again_and_that_is_counted() -> None:
    found = asked(answer(503, Retry_After="0.01"), answer(429), hang_up, half, ours())
    assert (found.outcome, found.verified, found.retries) == ("ok", True, 4)
    assert found.failed_tries == {"http_503": 1, "http_429": 1, "reset": 2}


@pytest.mark.parametrize("wait", ["60", "inf", "soon"])
def test_nobody_waits_past_the_deadline(wait: str) -> None:
    found = asked(answer(503, Retry_After=wait), timeout=0.4)
    assert (found.outcome, found.verified) == ("http_503", False)
    assert found.why_not == "no answer: http_503"


def test_refused_until_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = ask(f"http://127.0.0.1:{port}", timeout=0.8)
    assert (found.outcome, found.failed_tries) == ("refused", {"refused": 1})


@pytest.mark.parametrize("behaviour", [drip, lambda _: time.sleep(1)])
def test_silence_and_dripping_end_at_the_deadline(behaviour: Behaviour) -> None:
    assert asked(behaviour, timeout=0.3).outcome == "timeout"


@pytest.mark.parametrize("url", ["http://[::1", "http://nowhere.invalid", "ftp://x", "http://\x00"])
def test_no_address_is_a_row_too(url: str) -> None:
    assert ask(url, timeout=1).outcome in ("unreachable", "timeout")


def test_a_long_call_is_picked_up_where_it_says_and_that_is_counted() -> None:
    found = asked(answer(503, Retry_After="0.01"), answer(303, b"", Location="/later"))
    assert found.outcome == "ok" and found.failed_tries == {"http_503": 1, "http_303": 1}


def test_keys_go_along_to_the_same_server_only() -> None:
    headers: list[dict[str, str]] = []

    def noted(handler: BaseHTTPRequestHandler) -> None:
        headers.append(dict(handler.headers))
        answer(303, b"", Location="http://127.0.0.2:9/later")(handler)

    with server(noted) as (url, _):
        trial = Trial(1, "t", "initial", 1)
        found = measure_trial(trial, url, "key", 20, set(), {"Modal-Key": "wk", "Modal-Secret": "ws"})
    assert (found.outcome, found.retries, found.why_not) == ("redirected", 0, "no answer: redirected")
    assert [(sent["Modal-Key"], sent["Modal-Secret"], sent["Authorization"]) for sent in headers] == [
        ("wk", "ws", "Bearer key")
    ]


def test_a_worker_of_ours(scripted: ScriptedWorker) -> None:
    seen: set[str] = set()
    cold, warm = ask(scripted.url, seen=seen), ask(scripted.url, "warm", seen)
    assert cold.verified and cold.start_kind == "plain" and "embed" in cold.server_ms
    assert warm.counts_as_warm and warm.boot_requests == 2


def test_only_what_is_proven_is_counted_as_cold() -> None:
    seen: set[str] = set()
    with server(ours("a", "created"), ours("b"), ours("b", requests="2"), answer(500)) as (url, _):
        samples = [ask(url, seen=seen), ask(url, seen=seen), ask(url, "warm", seen), ask(url, seen=seen)]
    samples.append(record_unsent_trial(Trial(5, "t", "initial", 1), "nothing answers"))
    assert (
        len(select_times(samples, "plain")) == 1
        and len(select_times(samples, "warm")) == 1
        and not select_times(samples, "restored")
    )
    found = count_outcomes(samples)
    assert (found["verified"], found["excluded"], found["unverified"]) == (1, 1, 2)
    assert found["outcomes"] == {"ok": 3, "http_500": 1, "not_scaled_down": 1}
    assert not explain_never_cold(samples)


def test_never_cold_is_said() -> None:
    with server(ours(requests="9")) as (url, _):
        busy = [ask(url, seen=set()) for _ in range(3)]
    assert explain_never_cold(busy) == (
        "never verified cold in 3 tries (its process had answered 8 before, 3 of 3): someone else may keep it warm"
    )
    assert explain_never_cold([asked(answer())]) == f"never verified cold in 1 tries ({NOT_OURS}, 1 of 1)"
    assert explain_never_cold([asked(ours(kind="created"))]).endswith("more repetitions measure restores from it")
