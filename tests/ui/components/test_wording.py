from __future__ import annotations

from ui.components import wording


def test_figures() -> None:
    assert [wording.format_seconds(value) for value in (4, 150, 9_994, 12_345)] == [
        "0.00 s",
        "0.15 s",
        "9.99 s",
        "12 s",
    ]
    ages = [wording.format_age(age) for age in (-5, 59, 60, 7_200, 86_400, 200_000)]
    assert ages == ["just now", "just now", "1 min ago", "2 h ago", "1 day ago", "2 days ago"]
    assert [wording.as_sentence(text) for text in ("a. b", "why?", "")] == ["A. b.", "Why?", ""]


def test_counts_and_ranks() -> None:
    assert [wording.format_count(count, "page") for count in (0, 1, 1_234)] == ["0 pages", "1 page", "1,234 pages"]
    ranks = [wording.format_ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
    assert ranks == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]


def test_sizes_and_durations() -> None:
    sizes = [wording.format_bytes(size) for size in (400, 999_999, 1_500_000, 177_000_000, 2_400_000_000)]
    assert sizes == ["0 kB", "1000 kB", "1.5 MB", "177 MB", "2.4 GB"]
    durations = [wording.format_duration(seconds) for seconds in (0.5, 12.4, 60, 3_599, 3_600, 9_000)]
    assert durations == ["0.50 s", "12 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "2 h 30 min"]
    assert wording.format_ms(12_345.6) == "12,346\u00a0ms", "it does not break between number and unit"
