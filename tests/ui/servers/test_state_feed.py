"""How an engine's state comes to the page: real connections to servers that answer, refuse, hang up or are gone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.states import elsewhere, engine, start
from tests.support.waiting import until
from ui.coldstart import timeline
from ui.servers import state
from ui.servers.state import ServerState
from ui.servers.state_feed import EngineStateFeed


@pytest.mark.parametrize("code", [302, 401, 404])
def test_who_will_not_tell_is_asked_once(code: int) -> None:
    with elsewhere(code) as (url, asked):
        watch = EngineStateFeed(lambda: (url, "the-key"))
        watch.start()
        until(lambda: watch.state == state.REFUSED)
        watch.close()
    assert asked == [("/engine/events", "the-key")], "the key goes to no other address"


def test_what_is_not_understood_is_told() -> None:
    for body in (b"data: {}\n\n", b"data: not JSON\n\n"):
        with elsewhere(200, body) as (url, _):
            watch = EngineStateFeed(lambda url=url: (url, "k"))  # type: ignore[misc]
            watch.start()
            until(lambda watch=watch: watch.state == state.NOT_UNDERSTOOD)
            watch.close()


def test_engine_that_says_one_word_and_hangs_up_is_asked_after_a_growing_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ui.servers.state_feed.PAUSES_S", (0.01, 3600.0))
    with elsewhere(200, b"data: " + json.dumps(engine()).encode() + b"\n\n") as (url, asked):
        watch = EngineStateFeed(lambda: (url, "k"))
        watch.start()
        until(lambda: len(asked) == 2)
        time.sleep(0.5)
        watch.close()
    assert len(asked) == 2


def test_engine_that_is_not_there_is_told() -> None:
    def nowhere() -> tuple[str, str]:
        raise FileNotFoundError("admin.key")

    watch = EngineStateFeed(nowhere)
    assert watch.state == state.STARTING
    watch.start()
    until(lambda: watch.state == state.SILENT)
    watch.close()


def test_a_browser_that_leaves_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.servers.state_feed.BROWSERS", 1)

    async def test() -> None:
        watch = EngineStateFeed(None)
        followed = watch.follow()
        assert await anext(followed) == state.ELSEWHERE and watch.is_full
        await followed.aclose()
        assert not watch.is_full
        last = [news async for news in ending(watch)]
        assert last == [state.ELSEWHERE], "closing ends a stream that waits"

    async def ending(watch: EngineStateFeed) -> AsyncIterator[ServerState]:
        async for news in watch.follow():
            threading.Timer(0.05, watch.close).start()
            yield news

    asyncio.run(test())


def test_a_feed_keeps_the_states_it_has_read() -> None:
    told = [engine(), engine(waiting=1, start=start()), engine(state="serving", in_flight=1)]
    body = b"".join(b"event: engine\ndata: " + json.dumps(one).encode() + b"\n\n" for one in told)
    with elsewhere(200, body) as (url, _):
        watch = EngineStateFeed(lambda: (url, "k"))
        assert watch.history == []
        watch.start()
        until(lambda: len(watch.history) >= 4)
        watch.close()
    assert [span.state for span in watch.history][:4] == ["zero", "restoring", "serving", "unknown"]
    parts = timeline.render_parts(watch.state, watch.history, watch.history[-1].began + 1)
    assert 'data-look="restoring"' in parts["strip"] and "secret" not in json.dumps(parts)


def test_browsers_are_told_again_when_a_run_begins() -> None:
    async def test() -> None:
        watch = EngineStateFeed(None)
        followed = watch.follow()
        await anext(followed)
        asyncio.get_running_loop().call_later(0.05, watch.publish_again)
        async with asyncio.timeout(5):
            assert await anext(followed) == state.ELSEWHERE
        await followed.aclose()

    asyncio.run(test())
