"""Reads server-sent events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

EVENT_BYTES = 1024 * 1024


def parse_events(chunks: Iterable[bytes], most: int | None = EVENT_BYTES) -> Iterator[tuple[str, bytes]]:
    """Yield kind and data of each event that has data; the kind is "" where the server names none.

    Raises ValueError if an event has no end within `most` bytes, where that is given.
    """
    rest = b""
    for chunk in chunks:
        *texts, rest = (rest + chunk).split(b"\n\n")
        for text in texts:
            fields = [line.partition(b":") for line in text.split(b"\n")]
            kinds = [value.strip() for name, _, value in fields if name == b"event"]
            data = [value.strip() for name, _, value in fields if name == b"data"]
            if data:
                yield b"".join(kinds[-1:]).decode("ascii", "replace"), b"\n".join(data)
        if most is not None and len(rest) > most:
            raise ValueError("an event without an end")
