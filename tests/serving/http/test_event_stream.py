from __future__ import annotations

import pytest

from serving.http.event_stream import parse_events


def test_events_are_cut_out_of_a_stream() -> None:
    stream = b"retry: 1\n\nevent: engine\ndata: {}\n\n: nothing new\n\ndata: a\ndata: b\n\ndata: unfinished"
    for size in (1, 7, 1_000):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert list(parse_events(chunks)) == [("engine", b"{}"), ("", b"a\nb")]
    with pytest.raises(ValueError, match="without an end"):
        list(parse_events([b"x" * 600_000] * 2))
    assert list(parse_events([b"data: " + b"x" * 2_000_000, b"\n\n"], most=None)) == [("", b"x" * 2_000_000)]
