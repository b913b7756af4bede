"""What a browser may see of the engine's status: the fields below, and nothing that is not among them.

Knows neither where the status comes from nor how it is shown.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

STARTS = 6
TEXT_CHARS = 300
ENTRIES = 40
FOLDERS = re.compile(r"[^\s'\"(=]*[/\\]")
"""Everything of a word up to its last slash."""
TOKEN = re.compile(r"(?=[\w-]*\d)[\w-]{20,}")
"""Long and with a digit in it: a key or a hash rather than a word."""

State = Literal["zero", "starting", "snapshotting", "restoring", "serving", "scaling_down", "failed"]


def scrubbed(text: object) -> str:
    """A reason, made by programs of this machine, without its folders and without anything that looks like a key."""
    plain = " ".join(TOKEN.sub("…", FOLDERS.sub("", str(text))).split())
    return plain if len(plain) <= TEXT_CHARS else plain[: TEXT_CHARS - 1] + "…"


def first(count: int) -> BeforeValidator:
    return BeforeValidator(lambda found: found[:count] if isinstance(found, list) else found)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-]{1,40}$")]
Text = Annotated[str, BeforeValidator(scrubbed)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Phases = Annotated[dict[Name, Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=ENTRIES)]
"""Milliseconds; one that is what others leave over may come out a little below zero."""


class Shown(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Row(Shown):
    """One start; `at` in Unix seconds."""

    at: Number
    backend: Name
    kind: Name
    outcome: Name
    reason: Text = ""
    phases: Phases = {}
    ready_ms: Number
    first_answer_ms: Number | None = None


class Going(Shown):
    """The start that is going on."""

    kind: Name
    phases: Phases = {}
    phase: Name | None = None
    elapsed_ms: Number
    expected_ms: Number | None = None
    reason: Text = ""


class Next(Shown):
    """What a search at zero would meet."""

    kind: Name
    expected_ms: Number | None = None


class Snapshot(Shown):
    bytes: Number
    age_s: float


class Held(Shown):
    """What a worker of a GPU holds at zero, in bytes."""

    host_bytes: Number = 0
    gpu_saved: Number = 0


class Facts(Shown):
    """The engine at the moment `now`, in its own Unix seconds."""

    state: State
    now: Number
    reason: Text = ""
    scaledown_at: Number | None = None
    in_flight: int = 0
    waiting: int = 0
    min_containers: int = 0
    backend: Name
    tier: Name
    held: Held | None = None
    refused: Annotated[dict[Name, Text], Field(max_length=ENTRIES)] = {}
    disabled: Text = ""
    snapshot: Snapshot | None = None
    start: Going | None = None
    next: Next
    last_start: Row | None = None
    history: Annotated[list[Row], first(STARTS)] = []

    @classmethod
    def of(cls, status: object) -> Facts:
        """From what `GET /engine` answers. Raises ValueError if it is something else."""
        return cls.model_validate(status)

    def aged(self, seconds: float) -> Facts:
        """The same, that much later: what runs has run on."""
        changes: dict[str, Any] = {"now": self.now + seconds}
        if self.start is not None:
            elapsed = self.start.elapsed_ms + seconds * 1000
            changes["start"] = self.start.model_copy(update={"elapsed_ms": elapsed})
        if self.snapshot is not None:
            changes["snapshot"] = self.snapshot.model_copy(update={"age_s": self.snapshot.age_s + seconds})
        return self.model_copy(update=changes)

    @property
    def seconds_left(self) -> float | None:
        """Until the worker goes; None where nothing is counted down."""
        return None if self.scaledown_at is None else max(0.0, self.scaledown_at - self.now)

    @property
    def look(self) -> State:
        """The state as a person would call it: a start that has been asked for has begun."""
        if self.state != "zero" or not (self.start or self.waiting):
            return self.state
        return "restoring" if self.next.kind == "restored" else "starting"


class Unknown(Shown):
    """Why there are no facts."""

    title: str
    why: str


CONNECTING = Unknown(title="Connecting…", why="waiting for the page's server")
STARTING = Unknown(title="Connecting…", why="waiting for the embedder's engine")
SILENT = Unknown(title="Not reachable", why="the embedder's engine does not answer; trying again")
ELSEWHERE = Unknown(title="Runs elsewhere", why="its state is not known to this page")
REFUSED = Unknown(
    title="State not known", why="the embedder refuses to report it: is DORMOUSE_ADMIN_KEY its admin key?"
)
STRANGE = Unknown(title="State not known", why="the engine's report is not understood by this page")

News = Facts | Unknown


def told(news: News) -> dict[str, Any]:
    """What `GET /status` answers."""
    if isinstance(news, Unknown):
        return {"state": "unknown", "reason": f"{news.title}: {news.why}"}
    return {**news.model_dump(), "seconds_left": news.seconds_left}
