"""Numbers, times and sizes in words. Also filters of the templates, under the same names."""

from __future__ import annotations

from datetime import datetime


def format_count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def format_bytes(size: int) -> str:
    if size < 1e6:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.{1 if size < 1e8 else 0}f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def format_seconds(milliseconds: float) -> str:
    value = milliseconds / 1000
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def format_ms(value: float) -> str:
    return f"{value:,.0f}\N{NO-BREAK SPACE}ms"


def format_age(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "just now"


def format_day(moment: float) -> str:
    """Return the day, here, of a time in seconds since 1970."""
    return f"{datetime.fromtimestamp(moment):%Y-%m-%d}"


def format_duration(seconds: float) -> str:
    if seconds < 60:
        return format_seconds(1000 * seconds)
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_rough(seconds: float) -> str:
    """Return a length of time as a person would say it, in one unit."""
    if seconds < 55:
        return f"{max(1, round(seconds)) if seconds < 10 else 5 * round(seconds / 5)} s"
    if seconds < 90 * 60:
        return f"{max(1, round(seconds / 60))} min"
    return f"{round(seconds / 3600)} h"


def as_sentence(text: str) -> str:
    """Return the text with a capital and a full stop."""
    return text[:1].upper() + text[1:] + "." * (text[-1:] not in (".", "…", "?", "!", ""))
