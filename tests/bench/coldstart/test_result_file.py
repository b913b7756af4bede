"""Result files read back: what the bench writes is taken, and what is cut off, newer or no number is refused."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.coldstart.result_file import (
    SCHEMA,
    ResultError,
    build_schema,
    group_uncounted,
    load_result,
    select_headline,
    select_start_seconds,
    split_series,
)
from bench.coldstart.sample import Sample, select_counted
from bench.results import record
from bench.results.stats import summarise
from tests.support.cold_start_results import PLAIN_MS, RESTORED_MS, WARM_MS, content, every_kind, made, sample, written


def test_a_written_result_is_read_back(tmp_path: Path) -> None:
    found = load_result(written(tmp_path))
    assert list(found.samples) == every_kind()
    assert found.headline == "builtin criu"
    assert found.summary.restored == summarise(RESTORED_MS)
    assert found.summary.targets["builtin plain"].plain.p50 == 1000
    assert found.environment.cpu == record.describe_environment()["cpu"]


@pytest.mark.parametrize("samples", [[], every_kind()[-2:], every_kind()[:1]])
def test_results_without_a_figure_are_read_too(tmp_path: Path, samples: list[Sample]) -> None:
    assert load_result(written(tmp_path, samples)).headline == ""


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path).read_bytes().rstrip()
    for length in range(0, len(whole), 101):
        cut = tmp_path / "cut.json"
        cut.write_bytes(whole[:length])
        with pytest.raises(ResultError, match=r"cut\.json is not a whole JSON file"):
            load_result(cut)


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    found = content()
    change(found)
    return json.dumps(found)


REFUSED = {
    "newer": (lambda c: c.update(schema_version=2), r"written by a newer release \(2; this one reads 1\)"),
    "older": (lambda c: c.update(schema_version=0), "has a schema version that this release does not know"),
    "no version": (lambda c: c.pop("schema_version"), "has a schema version that this release does not know"),
    "true is no version": (lambda c: c.update(schema_version=True), "does not know"),
    "another command's": (lambda c: c.update(kind="speed"), "is not a result of the cold-start command"),
    "NaN": (lambda c: c["samples"][1].update(client_ms=float("nan")), "is not a whole JSON file"),
    "infinity": (lambda c: c.update(cold_start_ms=float("-inf")), "is not a whole JSON file"),
    "no samples": (lambda c: c.pop("samples"), "samples: Field required"),
    "a number in words": (lambda c: c["samples"][0].update(client_ms="12"), "samples.0.client_ms"),
    "answered before it was asked": (lambda c: c["samples"][1].update(client_ms=-1.0), "sample 2 has no time"),
    "answered in no time": (lambda c: c["samples"][1].update(client_ms=0.0), "sample 2 has no time"),
    "no date": (lambda c: c["samples"][1].update(started="yesterday"), "yesterday"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    change, why = REFUSED[name]
    file = tmp_path / "some.json"
    file.write_text(changed(change), encoding="utf-8")
    with pytest.raises(ResultError, match=why) as refused:
        load_result(file)
    assert str(refused.value).startswith(str(file))


@pytest.mark.parametrize(
    "text", ["[]", "null", "[" * 100_000, "\xff", '{"kind": "cold_start", "cold_start_ms": 1e999}']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ResultError):
        load_result(file)


def test_the_published_schema_is_the_code_s() -> None:
    published = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert published == build_schema(), "write it again: python -m bench.coldstart.result_file"


def test_a_written_result_fits_the_published_schema(tmp_path: Path) -> None:
    """By a validator that is not ours where there is one, else by the names that the schema demands."""
    published, found = json.loads(SCHEMA.read_text(encoding="utf-8")), json.loads(written(tmp_path).read_text())
    assert set(found) == set(published["properties"]) == set(published["required"])
    if importlib.util.find_spec("jsonschema"):
        importlib.import_module("jsonschema").validate(found, published)


def test_only_what_counts_is_in_a_series() -> None:
    found = split_series([made()])
    assert [(one.label, one.ms) for one in found] == [
        ("plain", list(PLAIN_MS)), ("restored", list(RESTORED_MS)), ("warm", list(WARM_MS)),
    ]  # fmt: skip
    groups = {why: [one.number for one in samples] for why, samples in group_uncounted(made()).items()}
    assert groups == {"made the snapshot": [1], "not verified": [20, 21], "failed": [22], "not sent": [23]}


def test_each_way_of_coming_back_stands_alone() -> None:
    samples = every_kind() + [sample(40 + n, "restored", 50.0, target="builtin fork") for n in range(2)]
    found = made(samples)
    labels = [one.title for one in split_series([found])]
    assert labels == ["plain (n=3)", "restored, builtin criu (n=3)", "restored, builtin fork (n=2)", "warm (n=4)"]
    assert [one.client_ms for one in select_headline(found, "restored")] == list(RESTORED_MS)
    assert len(select_counted(found.samples, "restored")) == 5


def test_starts_are_those_of_the_headline_less_a_warm_answer() -> None:
    fork = [sample(40 + n, "restored", 50.0, target="builtin fork") for n in range(2)]
    assert select_start_seconds(made(every_kind() + fork)) == pytest.approx([(ms - 10.5) / 1000 for ms in RESTORED_MS])
    faster_than_warm = [sample(1, "restored", 7.0), *(sample(2 + n, "warm", 9.0) for n in range(2))]
    assert select_start_seconds(made(faster_than_warm)) == [0.0]
    with pytest.raises(ResultError, match="has no verified cold starts"):
        select_start_seconds(made(every_kind()[-2:]))


def test_two_results_of_one_name_are_numbered() -> None:
    labels = {one.label.partition(":")[0] for one in split_series([made(), made()])}
    assert labels == {"builtin 1", "builtin 2"}
