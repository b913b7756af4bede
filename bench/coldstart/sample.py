"""A sample: one request to one server, timed by the client, and what its answer proves.

A fault of the server is a sample like any other, never an exception: what failed belongs in the result too.
"""

from __future__ import annotations

import errno
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import orjson
import requests
import urllib3

from bench.coldstart.plan import COLD_KINDS, Trial
from serving.client import CONNECT_S, RETRY_S, parse_server_timing, read_retry_after
from serving.errors import ServingError
from serving.http.redirects import FOLLOWED, NO_HEADERS, find_redirect

ASK = orjson.dumps({"texts": ["total amount due"]})
"""The same body for every server and every trial."""
RETRIED = ("refused", "reset", "http_429", "http_503")
"""Outcomes of a server that is starting or has not bound its port yet: a patient client tries again."""
CHUNK = 65_536
KINDS = ("plain", "restored", "warm")
"""Kinds that figures count, in the order of every figure and table."""
NOT_OURS = "not a Dormouse server"
NEW = "a warm request met a new process"
STARTED_BEFORE = "its process had started before it was asked"
WARM = "warm"
CREATED = "created"
RESTORED = "restored"
BOOT = ("start", "restore", "wake")
"""Phases of a start in Server-Timing: they belong to the process, so a warm answer names them too."""


@dataclass(frozen=True)
class Sample:
    """One trial with its outcome. Times in ms; header values are empty or 0 where the server sent none."""

    number: int
    target: str
    kind: str
    repetition: int
    started: str
    """ISO 8601, UTC."""
    client_ms: float
    """From the first try to the last byte of the answer, or to giving up; waiting between tries included."""
    outcome: str
    """The last try's: ok, timeout, refused, reset, unreachable, redirected (to another server), http_<status>,
    not_vectors or not_scaled_down."""
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
    """Outcomes before the last try, counted. http_303: the answer was not there in time and was picked up later."""

    @property
    def counts_as_cold(self) -> bool:
        """True if cold figures count it."""
        return self.verified and self.outcome == "ok"

    @property
    def counts_as_warm(self) -> bool:
        """True if warm figures count it: not if it met a process that had not answered before."""
        return self.kind == "warm" and self.outcome == "ok" and self.why_not != NEW


@dataclass(frozen=True, eq=False)
class Attempt:
    """One try of a request."""

    outcome: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = RETRY_S
    redirects: int = 0
    """303s that were followed."""


def measure_trial(
    trial: Trial, url: str, key: str, timeout_s: float, seen: set[str], extra: Mapping[str, str] = NO_HEADERS
) -> Sample:
    """Send the trial's request, again until the deadline while the server is starting, and return the sample.

    `seen` holds the boot ids of this run so far; this answer's is added. `extra`: headers of every request. Each try
    has a connection of its own, so that warm and cold requests pay the same for it.
    """
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    began = time.perf_counter()
    failed: Counter[str] = Counter()
    while True:
        last = send_once(url, key, began + timeout_s, extra)
        ended = time.perf_counter()
        if last.redirects:
            failed["http_303"] += last.redirects
        if last.outcome not in RETRIED or ended + last.wait_s >= began + timeout_s:
            break
        failed[last.outcome] += 1
        time.sleep(last.wait_s)
    client_ms, headers = (ended - began) * 1000, last.headers
    boot, kind = headers.get("X-Boot-Id", ""), headers.get("X-Start-Kind", "")
    count_text = headers.get("X-Boot-Requests", "")
    count = int(count_text) if count_text.isascii() and count_text.isdigit() else 0
    server_ms: dict[str, float] = {}
    with suppress(ValueError):
        server_ms = parse_server_timing(headers.get("Server-Timing", ""))
    waited = client_ms >= max(server_ms.get(name, 0.0) for name in BOOT)
    reason = why_not_cold(trial, last.outcome, boot, kind, count, known=boot in seen, waited=waited)
    if boot:
        seen.add(boot)
    where = (trial.number, trial.target, trial.kind, trial.repetition)
    sample = Sample(*where, started, round(client_ms, 3), last.outcome, verified=not reason, why_not=reason)
    answered = replace(sample, boot_id=boot, start_kind=kind, boot_requests=count, server_ms=server_ms)
    tier = headers.get("X-Snapshot-Tier", "")
    return replace(answered, tier=tier, retries=failed.total(), failed_tries=dict(failed))


def record_unsent_trial(trial: Trial, reason: str) -> Sample:
    """Return the sample of a cold trial whose target could not be scaled down: no request was sent."""
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    where = (trial.number, trial.target, trial.kind, trial.repetition)
    return Sample(*where, started, 0.0, "not_scaled_down", why_not=reason)


def send_once(url: str, key: str, ends: float, headers: Mapping[str, str]) -> Attempt:
    """Send the request once, following redirects on the same host.

    `ends` is on perf_counter; a server that sends byte by byte is left at most one `CONNECT_S` later.
    """
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
                wait = (min(CONNECT_S, left), left)
                with session.request(
                    method, where, data=body, headers=sent, timeout=wait, stream=True, allow_redirects=False
                ) as response:
                    after = find_redirect(where, response) if followed < FOLLOWED else None
                    if after is None:
                        return replace(read_attempt(response, ends), redirects=followed)
                where, method, body = after, "GET", b""
                followed += 1
    except ServingError:
        return Attempt("redirected", redirects=followed)
    except requests.Timeout as error:
        connecting = isinstance(error, requests.ConnectTimeout) and time.perf_counter() < ends
        return Attempt("refused" if connecting else "timeout", redirects=followed)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Attempt(classify_failure(error, time.perf_counter() >= ends), redirects=followed)


def read_attempt(response: requests.Response, ends: float) -> Attempt:
    """Read the answer to its last byte, or until `ends` (perf_counter)."""
    content = b""
    while chunk := response.raw.read1(CHUNK):
        content += chunk
        if time.perf_counter() >= ends:
            return Attempt("timeout")
    if response.status_code != 200:
        wait = read_retry_after(response)
        wait_s = RETRY_S if wait is None or not math.isfinite(wait) else wait
        return Attempt(f"http_{response.status_code}", wait_s=wait_s)
    return Attempt("ok" if holds_vector(content) else "not_vectors", content, response.headers)


def classify_failure(error: BaseException, late: bool) -> str:
    """Return the outcome of a broken connection. The libraries wrap the system's own error several layers deep."""
    layers: list[BaseException] = [error]
    for layer in layers:
        if isinstance(layer, OSError) and layer.errno == errno.ECONNREFUSED:
            return "refused"
        if isinstance(layer, TimeoutError):
            return "timeout"
        inner = (layer.__cause__, layer.__context__, getattr(layer, "reason", None), *layer.args)
        layers += [cause for cause in inner if isinstance(cause, BaseException) and cause not in layers]
    if late:
        return "timeout"
    lost = (ConnectionError, requests.exceptions.ChunkedEncodingError)
    said = "".join(str(layer) for layer in layers)
    whole = any(isinstance(layer, lost) for layer in layers) or "Connection aborted" in said
    return "reset" if whole or "IncompleteRead" in said else "unreachable"


def holds_vector(content: bytes) -> bool:
    """Tell whether an answer is one vector of finite numbers, as it was asked for."""
    with suppress(ValueError, KeyError, TypeError):
        vectors = orjson.loads(content)["embeddings"]
        return len(vectors) == 1 and len(vectors[0]) > 0 and all(math.isfinite(value) for value in vectors[0])
    return False


def why_not_cold(trial: Trial, outcome: str, boot: str, kind: str, count: int, *, known: bool, waited: bool) -> str:
    """Return why an answer does not prove a cold start; empty if it does.

    `boot`, `kind` and `count` are its headers; `known`: this run has met that boot id before; `waited`: the client
    waited at least as long as the start took.
    """
    if outcome != "ok":
        return f"no answer: {outcome}"
    if not boot or not kind or not count:
        return NOT_OURS
    if trial.kind not in COLD_KINDS:
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


def select_counted(samples: Iterable[Sample], kind: str, target: str = "") -> list[Sample]:
    """Return the samples that figures of one of `KINDS` count, of one target or of all."""
    ours = [sample for sample in samples if target in ("", sample.target)]
    if kind == "warm":
        return [sample for sample in ours if sample.counts_as_warm]
    return [sample for sample in ours if sample.counts_as_cold and sample.start_kind == kind]


def select_times(samples: Iterable[Sample], kind: str, target: str = "") -> list[float]:
    return [sample.client_ms for sample in select_counted(samples, kind, target)]


def count_outcomes(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return counts for the result file: `excluded` made the snapshot, `unverified` is the rest of the cold trials."""
    cold = [sample for sample in samples if sample.kind in COLD_KINDS]
    verified = sum(sample.counts_as_cold for sample in cold)
    excluded = sum(sample.start_kind == CREATED and sample.outcome == "ok" for sample in cold)
    return {
        "verified": verified,
        "excluded": excluded,
        "unverified": len(cold) - verified - excluded,
        "outcomes": dict(Counter(sample.outcome for sample in samples)),
        "failed_tries": sum(sample.retries for sample in samples),
    }


def explain_never_cold(samples: Sequence[Sample]) -> str:
    """Return why no trial was verified cold, in a sentence; empty if one was, or none was tried."""
    tries = [sample for sample in samples if sample.kind in COLD_KINDS]
    if not tries or any(sample.counts_as_cold for sample in tries):
        return ""
    reasons = Counter(sample.why_not for sample in tries)
    why = "; ".join(f"{reason}, {count} of {len(tries)}" for reason, count in reasons.most_common())
    sentence = f"never verified cold in {len(tries)} tries ({why})"
    if all(sample.start_kind == CREATED for sample in tries):
        return f"{sentence}: --test-scaledown or more repetitions measure restores from it"
    warm = any(s.outcome == "ok" and s.start_kind != CREATED and s.why_not != NOT_OURS for s in tries)
    return sentence + (": someone else may keep it warm" if warm else "")


def explain_no_answer(samples: Sequence[Sample]) -> str:
    """Return in a sentence that the last trials of a target had no answer; empty if the very last had one."""
    answered = max((place for place, sample in enumerate(samples, 1) if sample.outcome == "ok"), default=0)
    if answered == len(samples):
        return ""
    lost = Counter(sample.outcome for sample in samples[answered:])
    why = ", ".join(f"{outcome} {count}" for outcome, count in lost.most_common())
    return f"no answer to its last {len(samples) - answered} of {len(samples)} trials ({why}): is the server gone?"


def choose_headline(samples: Sequence[Sample], targets: Sequence[str]) -> str:
    """Return the first target that was restored, else the first that was cold; empty if none was."""
    order = product(("restored", "plain"), targets)
    return next((target for kind, target in order if select_counted(samples, kind, target)), "")
