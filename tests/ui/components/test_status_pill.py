"""The engine's state on the page: what a browser may see, its words, and the way it takes."""

from __future__ import annotations

from typing import Any

from tests.support.states import NASTY, NOW, RESTORED, engine, start, text
from ui.components import status_pill as status
from ui.servers import state
from ui.servers.state import EngineState, ServerState, UnknownState


def words(**changes: Any) -> str:
    return text(status.render_parts(EngineState.model_validate(engine(**changes)))["words"])


def test_what_a_gpu_worker_holds_is_told_with_its_size() -> None:
    held = {"tier": "host", "since": NOW - 5, "host_bytes": 2_419_282_944, "gpu_saved": 958_726_144, "more": "secret"}
    assert words(backend="cuda", tier="host", held=held).endswith(
        "cuda · process in memory (2.4 GB, 1.0 GB of it from the GPU)"
    )
    kept = {**held, "gpu_saved": 0}
    assert words(backend="cuda", tier="context", held=kept).endswith("cuda · GPU context in memory (2.4 GB)")


# Words


def test_each_state_has_words_and_a_shape_of_its_own() -> None:
    found: list[ServerState] = [EngineState.model_validate(engine(state=name)) for name in status.TITLES]
    assert len({status.render_parts(news)["icon"] for news in [*found, state.ELSEWHERE]}) == 8
    assert len({status.describe_aloud(news) for news in found}) == 7
    assert set(status.TITLES) == set(status.SAID)


def test_pill_in_words() -> None:
    assert words() == "Asleep wakes in about 0.24 scriu · nothing held in memory"
    assert words(backend="fork", tier="host").endswith("fork · process in memory")
    assert words(backend="new", tier="newer").endswith("new · newer"), "of a later engine"
    first = engine(next={"kind": "created", "expected_ms": None}, snapshot=None, backend="fork", tier="host")
    assert words(**first) == "Asleep starts with the next searchfork · nothing held in memory"
    assert words(state="starting", start=start()) == "Starting 1.21 s of about 2.97 scriu · import"
    assert words(state="serving", in_flight=1) == "Awake workingcriu · restored in 0.24 s"
    assert words(state="serving", scaledown_at=NOW + 58.2).startswith("Awake asleep in 59 s")
    assert words(state="serving", min_containers=1).startswith("Awake stays awake")
    assert words(state="failed", reason="out of memory") == "Could not start out of memory"
    assert words(disabled="2 failures").startswith("Asleep") and "criu is switched off" in words(disabled="2 failures")
    restoring = words(state="restoring", start=start(kind="restored", phase="restore", elapsed_ms=121.0))
    assert restoring == "Waking up 0.12 s of about 2.97 scriu · from its snapshot · restore"


def test_a_start_that_was_asked_for_has_begun() -> None:
    """The engine is at zero for the first moment of a start, and does not know its kind yet."""
    asked = EngineState.model_validate(
        engine(waiting=1, start=start(kind="plain", phases={"queue": 0.1}, elapsed_ms=1.0))
    )
    assert status.name_state(asked) == "restoring"
    assert text(status.render_parts(asked)["words"]).startswith("Waking up 0.00 s of about 0.24 s")
    assert status.name_state(EngineState.model_validate(engine(waiting=1, next={"kind": "created"}))) == "starting"


def test_progress_is_measured_by_earlier_starts() -> None:
    known = status.render_parts(EngineState.model_validate(engine(state="starting", start=start(elapsed_ms=743.5))))[
        "words"
    ]
    assert 'data-elapsed="743.5"' in known and 'data-meter="2974.0" style="width:25.0%"' in known
    slow = status.render_parts(EngineState.model_validate(engine(state="starting", start=start(elapsed_ms=9_000.0))))[
        "words"
    ]
    assert "width:100.0%" in slow
    unknown = status.render_parts(EngineState.model_validate(engine(state="starting", start=start(expected_ms=None))))[
        "words"
    ]
    assert "endless" in unknown and "about" not in unknown
    assert "meter" not in status.render_parts(EngineState.model_validate(engine()))["words"]


def test_panel_tells_the_last_start_phase_by_phase() -> None:
    panel = status.render_parts(EngineState.model_validate(engine()))["panel"]
    assert "No embedder is running (nothing held in memory)" in panel
    assert "<span>restore</span>" in panel and "197 ms" in panel and "<span>wait</span>" not in panel
    assert "left:83.6%;width:4.8%" in panel, "a bar begins where the one before ended"
    assert "Ready after 0.24 s, first answer after 0.26 s." in panel and "restored, 2 min ago" in panel
    assert "criu: 177 MB on disk, made 2 h ago" in panel
    assert "<td>2 h ago</td><td>started and saved</td><td>2.97 s</td>" in panel


def test_panel_tells_what_was_passed_over_and_what_failed() -> None:
    failed = {**RESTORED, "outcome": "failed", "reason": "no memory", "kind": "plain", "phases": {"restore": -0.2}}
    panel = status.render_parts(
        EngineState.model_validate(
            engine(refused={"criu": "not installed"}, disabled="2 failures", last_start=failed, history=[failed])
        )
    )["panel"]
    assert "<b>criu</b>: not installed" in panel and "switched off until the engine starts again: 2 failures" in panel
    assert "started in full, 2 min ago" in panel and '<p class="why">No memory.</p>' in panel and "Failed." in panel
    plain = status.render_parts(
        EngineState.model_validate(engine(backend="plain", tier="none", snapshot=None, last_start=None, history=[]))
    )
    assert "None: every start is a full one." in plain["panel"] and "None yet." in plain["panel"]


def test_nothing_of_the_engine_is_markup() -> None:
    going = start(reason=NASTY, phases={}, phase=None)
    row = {**RESTORED, "reason": NASTY, "outcome": "failed"}
    cases: list[ServerState] = [
        EngineState.model_validate(
            engine(state="failed", reason=NASTY, refused={"fork": NASTY}, disabled=NASTY, last_start=row)
        ),
        EngineState.model_validate(engine(state="starting", start=going)),
        UnknownState(title=NASTY, why=NASTY),
    ]
    for found in cases:
        for markup in (*status.render_parts(found).values(), status.render_pill(found)):
            assert "<img src" not in markup
        assert "&lt;img" in "".join(status.render_parts(found).values())


# Several workers


def make_workers(*states: str, **changes: Any) -> list[dict[str, Any]]:
    told = {
        "since": NOW,
        "reason": "",
        "scaledown_at": None,
        "in_flight": 0,
        "waiting": 0,
        "start": None,
        "gpu": "GPU-1",
    }
    return [{"number": number, "state": name, **told, **changes} for number, name in enumerate(states)]


def test_several_workers_are_counted_in_the_pill_and_listed_in_the_panel() -> None:
    several = make_workers("serving", "serving", "zero")
    several[0] |= {"in_flight": 3}
    several[1] |= {"scaledown_at": NOW + 20.4}
    told = EngineState.model_validate(engine(state="serving", in_flight=3, workers=several))
    assert text(status.render_parts(told)["words"]).endswith("workingcriu · 2 of 3 workers")
    panel = text(status.render_parts(told)["panel"])
    for row in ("1Awake: 3 requests", "2Awake, asleep in 21 s", "3Asleep"):
        assert row in "".join(panel.split("\n")).replace("  ", ""), panel
    asked = EngineState.model_validate(engine(workers=make_workers("zero", "zero", waiting=1)))
    assert "Starting: 1 request" in text(status.render_parts(asked)["panel"])
    assert "GPU-1" not in told.model_dump_json(), "what no browser needs"


def test_one_worker_is_not_counted() -> None:
    one = EngineState.model_validate(engine(state="serving", workers=make_workers("serving")))
    parts = status.render_parts(one)
    assert "workers" not in text(parts["words"]) and "Workers" not in text(parts["panel"])
