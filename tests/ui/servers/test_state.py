"""What a browser may see of an engine: the listed fields, and reasons without folders and keys."""

from __future__ import annotations

import json

import pytest

from tests.support.states import NASTY, NOW, engine, start
from ui.components import status_pill as status
from ui.servers import state
from ui.servers.state import EngineState, as_json, scrub_reason


def test_only_what_is_listed_leaves_the_server() -> None:
    seen = as_json(EngineState.model_validate(engine()))
    assert set(seen) == {
        "state", "now", "reason", "scaledown_at", "in_flight", "waiting", "min_containers", "backend", "tier", "held",
        "refused", "disabled", "snapshot", "start", "next", "last_start", "history", "seconds_left",
            "workers", "batch",
    }  # fmt: skip
    assert set(seen["snapshot"]) == {"bytes", "age_s"}
    everything = json.dumps(seen) + json.dumps(status.make_message(EngineState.model_validate(engine())))
    assert "secret" not in everything and "424242" not in everything


def test_reasons_lose_folders_and_keys() -> None:
    assert scrub_reason("/home/me/data/snapshots cannot be used: Permission denied") == (
        "snapshots cannot be used: Permission denied"
    )
    assert scrub_reason("'/usr/bin/criu' is criu 3.17, too old. Install criu 4.1") == (
        "'criu' is criu 3.17, too old. Install criu 4.1"
    )
    assert scrub_reason("Can't open C:\\Users\\me\\x.img\n  at once") == "Can't open x.img at once"
    assert scrub_reason("key=Zk3v9QmW81_aLpX-0TyRbnC2 refused") == "key=… refused"
    assert scrub_reason("AttributeErrorInAVeryLongWord") == "AttributeErrorInAVeryLongWord"
    assert len(scrub_reason("x y " * 1_000)) == 300
    seen = as_json(
        EngineState.model_validate(engine(refused={"criu": "/opt/x/criu is no criu"}, disabled="/a/b c", reason="/d/e"))
    )
    assert seen["refused"] == {"criu": "criu is no criu"} and seen["disabled"] == "b c" and seen["reason"] == "e"


@pytest.mark.parametrize(
    "status", [None, [], {}, engine(state="dancing"), engine(backend=NASTY), engine(next={"kind": "a b"})]
)
def test_what_is_no_status_is_refused(status: object) -> None:
    with pytest.raises(ValueError, match="validation error"):
        EngineState.model_validate(status)


def test_facts_grow_old() -> None:
    old = EngineState.model_validate(engine(state="serving", scaledown_at=NOW + 58.2, start=start())).advance(10)
    assert old.seconds_left == pytest.approx(48.2) and old.start is not None and old.snapshot is not None
    assert old.start.elapsed_ms == 11_211 and old.snapshot.age_s == 7_310
    assert old.advance(100).seconds_left == 0
    assert as_json(EngineState.model_validate(engine()))["seconds_left"] is None


def test_only_a_known_state_has_facts() -> None:
    assert as_json(state.SILENT) == {
        "state": "unknown", "reason": "Not reachable: the embedder's engine does not answer; trying again",
    }  # fmt: skip
    asked = EngineState.model_validate(engine(waiting=1, next={"kind": "created"}))
    assert (asked.state, asked.shown_state) == ("zero", "starting"), "a start that was asked for has begun"
    many = EngineState.model_validate(engine(history=[engine()["last_start"]] * 50))
    assert len(many.history) == state.STARTS
