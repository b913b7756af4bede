"""An engine's status as far as a browser may see it: the fields below, and nothing else.

This module knows neither where a status comes from nor how it is shown.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

STARTS = 6
TEXT_CHARS = 300
ENTRIES = 40
FOLDERS = re.compile(r"[^\s'\"(=]*[/\\]")
"""The part of a word up to its last slash."""
TOKEN = re.compile(r"(?=[\w-]*\d)[\w-]{20,}")
"""Long and with a digit in it: a key or a hash rather than a word."""

StateName = Literal["zero", "starting", "snapshotting", "restoring", "serving", "scaling_down", "failed"]


def scrub_reason(text: object) -> str:
    """Return a reason, made by programs of this machine, without its folders and anything that looks like a key."""
    plain = " ".join(TOKEN.sub("…", FOLDERS.sub("", str(text))).split())
    return plain if len(plain) <= TEXT_CHARS else plain[: TEXT_CHARS - 1] + "…"


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-]{1,40}$")]
Text = Annotated[str, BeforeValidator(scrub_reason)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Phases = Annotated[dict[Name, Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=ENTRIES)]
"""Milliseconds. A phase that is computed as the rest of the others may be a little below zero."""
History = BeforeValidator(lambda found: found[:STARTS] if isinstance(found, list) else found)


class StatusModel(BaseModel):
    """A part of the status. Fields that are not named are dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StartRecord(StatusModel):
    """One start that is over. `at` is in Unix seconds."""

    at: Number
    backend: Name
    kind: Name
    outcome: Name
    reason: Text = ""
    phases: Phases = {}
    ready_ms: Number
    first_answer_ms: Number | None = None
    worker: int = 0


class StartInProgress(StatusModel):
    """The start that runs now."""

    kind: Name
    phases: Phases = {}
    phase: Name | None = None
    elapsed_ms: Number
    expected_ms: Number | None = None
    reason: Text = ""


class NextStart(StatusModel):
    """The start that a search at zero would wait for."""

    kind: Name
    expected_ms: Number | None = None


class Snapshot(StatusModel):
    """The stored snapshot."""

    bytes: Number
    age_s: float


class ParkedMemory(StatusModel):
    """Memory that a worker of a GPU holds at zero, in bytes."""

    host_bytes: Number = 0
    gpu_saved: Number = 0


class WorkerState(StatusModel):
    """One worker of an engine that has several."""

    number: Annotated[int, Field(ge=0)]
    state: StateName
    scaledown_at: Number | None = None
    in_flight: int = 0
    waiting: int = 0
    start: StartInProgress | None = None

    @property
    def is_up(self) -> bool:
        return self.state == "serving"

    @property
    def has_begun(self) -> bool:
        """Whether a start has been asked for, of which the engine does not know the kind yet."""
        return self.state == "zero" and bool(self.start or self.waiting)


class EngineState(StatusModel):
    """The engine at the moment `now`, in its own Unix seconds."""

    state: StateName
    now: Number
    reason: Text = ""
    scaledown_at: Number | None = None
    in_flight: int = 0
    waiting: int = 0
    min_containers: int = 0
    backend: Name
    tier: Name
    held: ParkedMemory | None = None
    refused: Annotated[dict[Name, Text], Field(max_length=ENTRIES)] = {}
    disabled: Text = ""
    snapshot: Snapshot | None = None
    start: StartInProgress | None = None
    next: NextStart
    last_start: StartRecord | None = None
    history: Annotated[list[StartRecord], History] = []
    workers: Annotated[list[WorkerState], Field(max_length=64)] = []
    """Older engines tell of none, and have one."""
    batch: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Pages on which each works at the same time."""

    def advance(self, seconds: float) -> EngineState:
        """Return the state that much later, with its start and its snapshot's age moved on."""
        changes: dict[str, Any] = {"now": self.now + seconds}
        if self.start is not None:
            elapsed = self.start.elapsed_ms + seconds * 1000
            changes["start"] = self.start.model_copy(update={"elapsed_ms": elapsed})
        if self.snapshot is not None:
            changes["snapshot"] = self.snapshot.model_copy(update={"age_s": self.snapshot.age_s + seconds})
        return self.model_copy(update=changes)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the worker stops; None where nothing is counted down."""
        return None if self.scaledown_at is None else max(0.0, self.scaledown_at - self.now)

    @property
    def shown_state(self) -> StateName:
        """The state that a person is shown: a start that has been asked for has begun."""
        if self.state != "zero" or not (self.start or self.waiting):
            return self.state
        return "restoring" if self.next.kind == "restored" else "starting"


class UnknownState(StatusModel):
    """A state that is not known, and why."""

    title: str
    why: str


CONNECTING = UnknownState(title="Connecting…", why="waiting for the page's server")
STARTING = UnknownState(title="Connecting…", why="waiting for the embedder's engine")
SILENT = UnknownState(title="Not reachable", why="the embedder's engine does not answer; trying again")
ELSEWHERE = UnknownState(title="Runs elsewhere", why="its state is not known to this page")
REFUSED = UnknownState(
    title="State not known", why="the embedder refuses to report it: is DORMOUSE_ADMIN_KEY its admin key?"
)
NOT_UNDERSTOOD = UnknownState(title="State not known", why="the engine's report is not understood by this page")

ServerState = EngineState | UnknownState


def as_json(state: ServerState) -> dict[str, Any]:
    """Return the body of `GET /status`."""
    if isinstance(state, UnknownState):
        return {"state": "unknown", "reason": f"{state.title}: {state.why}"}
    return {**state.model_dump(), "seconds_left": state.seconds_left}
