"""One request to one server, timed by the one who waits for it, and what its answer proves.

A fault of the server is a row like any other, never an exception: what failed belongs in the result too. Knows nothing
of how a server is scaled down, nor of figures.
"""

from __future__ import annotations

import errno
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import requests
import urllib3

from bench.plan import COLD, Trial
from serving.client import CONNECT_S, RETRY_S, retry_after, server_timing
from serving.edge import FOLLOWED, NO_HEADERS, later
from serving.errors import ServingError

ASK = orjson.dumps({"texts": ["total amount due"]})
"""The same for every server and every trial."""
RETRIED = ("refused", "reset", "http_429", "http_503")
"""It is starting, or its port is not bound yet: what a patient client waits out."""
CHUNK = 65_536


@dataclass(frozen=True)
class Sample:
    """One trial with what came of it. Milliseconds; header values are empty or 0 where the server sent none."""

    number: int
    target: str
    kind: str
    repetition: int
    started: str
    """ISO 8601, UTC."""
    client_ms: float
    """From the first try to the last byte of the answer, or to giving up; waiting between tries included."""
    outcome: str
    """ok, timeout, refused, reset, unreachable, redirected (to another server), http_<status>, not_vectors or
    not_scaled_down: of the last try."""
    boot_id: str = ""
    start_kind: str = ""
    boot_requests: int = 0
    tier: str = ""
    server_ms: dict[str, float] = field(default_factory=dict)
    verified: bool = False
    """Proven cold by the answer itself."""
    why_not: str = ""
    retries: int = 0
    failed_tries: dict[str, int] = field(default_factory=dict)
    """How often what came before the last try. http_303: the answer was not there in time, and was picked up later."""

    @property
    def cold(self) -> bool:
        """Counts in cold figures."""
        return self.verified and self.outcome == "ok"

    @property
    def warm(self) -> bool:
        """Counts in warm figures: not if it met a process that nobody had asked before."""
        return self.kind == "warm" and self.outcome == "ok" and self.why_not != NEW


NOT_OURS = "not a Dormouse server"
NEW = "a warm request met a new process"
STARTED_BEFORE = "its process had started before it was asked"
WARM = "warm"
CREATED = "created"
RESTORED = "restored"
BOOT = ("start", "restore", "wake")
"""Phases of a start in Server-Timing: of the process, not of the request, so a warm answer names them too."""


@dataclass(frozen=True)
class Try:
    outcome: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = RETRY_S
    sent_on: int = 0
    """303s that were followed."""


def measure(
    trial: Trial, url: str, key: str, timeout_s: float, seen: set[str], headers: Mapping[str, str] = NO_HEADERS
) -> Sample:
    """`seen`: the boot ids of this run so far; the one of this answer is added. `headers` go with every request.

    Each request has a connection of its own, so that warm and cold ones pay the same for it.
    """
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    began = time.perf_counter()
    failed: Counter[str] = Counter()
    while True:
        last = once(url, key, began + timeout_s, headers)
        ended = time.perf_counter()
        if last.sent_on:
            failed["http_303"] += last.sent_on
        if last.outcome not in RETRIED or ended + last.wait_s >= began + timeout_s:
            break
        failed[last.outcome] += 1
        time.sleep(last.wait_s)
    return sample(trial, started, (ended - began) * 1000, last, dict(failed), seen)


def not_scaled_down(trial: Trial, reason: str) -> Sample:
    """The row of a cold trial whose target could not be brought to zero: no request was sent."""
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    where = (trial.number, trial.target, trial.kind, trial.repetition)
    return Sample(*where, started, 0.0, "not_scaled_down", why_not=reason)


def once(url: str, key: str, ends: float, headers: Mapping[str, str] = NO_HEADERS) -> Try:
    """One try. `ends` is on perf_counter; a server that sends byte by byte is left at most one `CONNECT_S` later."""
    sent = {**headers, "Content-Type": "application/json", "Accept-Encoding": "identity"}
    if key:
        sent["Authorization"] = f"Bearer {key}"
    followed = 0
    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy from the environment must not see loopback traffic or keys
            where, method, body = f"{url}/embed", "POST", ASK
            while True:
                left = max(0.01, ends - time.perf_counter())
                with session.request(
                    method, where, data=body, headers=sent, timeout=(min(CONNECT_S, left), left), stream=True,
                    allow_redirects=False,
                ) as response:  # fmt: skip
                    after = later(where, response) if followed < FOLLOWED else None
                    if after is None:
                        return replace(read(response, ends), sent_on=followed)
                where, method, body = after, "GET", b""
                followed += 1
    except ServingError:
        return Try("redirected", sent_on=followed)
    except requests.Timeout as error:
        connecting = isinstance(error, requests.ConnectTimeout) and time.perf_counter() < ends
        return Try("refused" if connecting else "timeout", sent_on=followed)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Try(broken(error, time.perf_counter() >= ends), sent_on=followed)


def read(response: requests.Response, ends: float) -> Try:
    content = b""
    while chunk := response.raw.read1(CHUNK):
        content += chunk
        if time.perf_counter() >= ends:
            return Try("timeout")
    if response.status_code != 200:
        wait = retry_after(response)
        return Try(f"http_{response.status_code}", wait_s=RETRY_S if wait is None or not math.isfinite(wait) else wait)
    return Try("ok" if vector_in(content) else "not_vectors", content, response.headers)


def broken(error: BaseException, late: bool) -> str:
    """In one word, what ended a connection. The libraries wrap the system's own error several layers deep."""
    found: list[BaseException] = [error]
    for layer in found:
        if isinstance(layer, OSError) and layer.errno == errno.ECONNREFUSED:
            return "refused"
        if isinstance(layer, TimeoutError):
            return "timeout"
        inner = (layer.__cause__, layer.__context__, getattr(layer, "reason", None), *layer.args)
        found += [cause for cause in inner if isinstance(cause, BaseException) and cause not in found]
    if late:
        return "timeout"
    lost = (ConnectionError, requests.exceptions.ChunkedEncodingError)
    said = "".join(str(layer) for layer in found)
    whole = any(isinstance(layer, lost) for layer in found) or "Connection aborted" in said
    return "reset" if whole or "IncompleteRead" in said else "unreachable"


def vector_in(content: bytes) -> bool:
    """One vector of finite numbers, as it was asked for."""
    try:
        vectors = orjson.loads(content)["embeddings"]
        return len(vectors) == 1 and len(vectors[0]) > 0 and all(math.isfinite(value) for value in vectors[0])
    except (ValueError, KeyError, TypeError):
        return False


def sample(
    trial: Trial, started: str, client_ms: float, last: Try, failed: dict[str, int], seen: set[str]
) -> Sample:  # fmt: skip
    headers = last.headers
    boot, kind = headers.get("X-Boot-Id", ""), headers.get("X-Start-Kind", "")
    told = headers.get("X-Boot-Requests", "")
    count = int(told) if told.isascii() and told.isdigit() else 0
    server_ms = phases(headers.get("Server-Timing", ""))
    waited = client_ms >= max(server_ms.get(name, 0.0) for name in BOOT)
    why_not = doubt(trial, last.outcome, boot, kind, count, boot in seen, waited)
    if boot:
        seen.add(boot)
    return Sample(
        trial.number, trial.target, trial.kind, trial.repetition, started, round(client_ms, 3), last.outcome,
        boot_id=boot, start_kind=kind, boot_requests=count, tier=headers.get("X-Snapshot-Tier", ""),
        server_ms=server_ms, verified=not why_not, why_not=why_not,
        retries=sum(failed.values()), failed_tries=failed,
    )  # fmt: skip


def doubt(trial: Trial, outcome: str, boot: str, kind: str, count: int, known: bool, waited: bool) -> str:
    """Why this answer is no proof of a cold start; empty if it is one. `waited`: for all that its start took."""
    if outcome != "ok":
        return f"no answer: {outcome}"
    if not boot or not kind or not count:
        return NOT_OURS
    if trial.kind not in COLD:
        return WARM if known or count > 1 else NEW
    if known:
        return "the same process answered before"
    if count != 1:
        return f"its process had answered {count - 1} before"
    if kind == CREATED:
        return "made the snapshot"
    if not waited:
        return STARTED_BEFORE
    return "" if kind in ("plain", "restored") else f"the start kind {kind!r} is not known"


def phases(header: str) -> dict[str, float]:
    try:
        return server_timing(header)
    except ValueError:
        return {}


def times(samples: Sequence[Sample], kind: str) -> list[float]:
    """Milliseconds of the warm ones, or of those that are verified cold with that start kind."""
    if kind == "warm":
        return [sample.client_ms for sample in samples if sample.warm]
    return [sample.client_ms for sample in samples if sample.cold and sample.start_kind == kind]


def counts(samples: Sequence[Sample]) -> dict[str, Any]:
    """`excluded` made the snapshot; `unverified` is the rest of the cold trials."""
    cold = [sample for sample in samples if sample.kind in COLD]
    verified = sum(sample.cold for sample in cold)
    excluded = sum(sample.start_kind == CREATED and sample.outcome == "ok" for sample in cold)
    return {
        "verified": verified,
        "excluded": excluded,
        "unverified": len(cold) - verified - excluded,
        "outcomes": dict(Counter(sample.outcome for sample in samples)),
        "failed_tries": sum(sample.retries for sample in samples),
    }


def never_cold(samples: Sequence[Sample]) -> str:
    """A sentence if not one try was verified cold; else empty."""
    tries = [sample for sample in samples if sample.kind in COLD]
    if not tries or any(sample.cold for sample in tries):
        return ""
    reasons = Counter(sample.why_not for sample in tries)
    why = "; ".join(f"{reason}, {count} of {len(tries)}" for reason, count in reasons.most_common())
    found = f"never verified cold in {len(tries)} tries ({why})"
    if all(sample.start_kind == CREATED for sample in tries):
        return f"{found}: --test-scaledown or more repetitions measure what comes back from it"
    warm = any(s.outcome == "ok" and s.start_kind != CREATED and s.why_not != NOT_OURS for s in tries)
    return found + (": someone else may keep it warm" if warm else "")


def gone(samples: Sequence[Sample]) -> str:
    """A sentence if the last of a target's trials had no answer; else empty."""
    answered = max((place for place, sample in enumerate(samples, 1) if sample.outcome == "ok"), default=0)
    if answered == len(samples):
        return ""
    lost = Counter(sample.outcome for sample in samples[answered:])
    why = ", ".join(f"{outcome} {count}" for outcome, count in lost.most_common())
    return f"no answer to its last {len(samples) - answered} of {len(samples)} trials ({why}): is the server gone?"


def chosen(samples: Sequence[Sample], names: Sequence[str]) -> str:
    """Of the target whose figures stand at the top; empty if none was cold."""
    for kind in ("restored", "plain"):
        for name in names:
            if times([sample for sample in samples if sample.target == name], kind):
                return name
    return ""
