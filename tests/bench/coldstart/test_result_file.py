"""Result files read back: what the bench writes is taken, and what is cut off, newer or no number is refused."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.coldstart import run
from bench.coldstart.result_file import (
    SCHEMA,
    Result,
    ResultError,
    build_schema,
    group_uncounted,
    load_result,
    select_headline,
    select_start_seconds,
    split_series,
)
from bench.coldstart.sample import NEW, Sample, select_counted
from bench.results import record
from bench.results.stats import summarise

BEGUN = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLAIN_MS, RESTORED_MS, WARM_MS = (900.0, 1000.0, 1100.0), (100.0, 110.0, 120.0), (9.0, 10.0, 11.0, 12.0)
PHASES = {
    "plain": {"start": 800.0, "hold": 805.0, "queue": 0.5, "embed": 40.0},
    "restored": {"restore": 60.0, "hold": 62.0, "queue": 0.5, "embed": 30.0},
    "created": {"start": 3000.0, "hold": 3000.0, "embed": 40.0},
    "warm": {"restore": 60.0, "hold": 0.1, "queue": 0.5, "embed": 7.0},
}


def sample(number: int, start: str, ms: float, **fields: Any) -> Sample:
    """As `measure` makes them: verified if plain or restored; `start` may be warm."""
    warm, cold = start == "warm", start in ("plain", "restored")
    way = "builtin plain" if start == "plain" else "builtin criu"
    made = Sample(
        number, way, "warm" if warm else "initial", 1, (BEGUN + timedelta(seconds=number)).isoformat(), ms, "ok",
        boot_id=f"boot {number}", start_kind="restored" if warm else start, boot_requests=2 if warm else 1,
        server_ms=dict(PHASES.get(start, {})), verified=cold,
        why_not="warm" if warm else "" if cold else "made the snapshot",
    )  # fmt: skip
    return replace(made, **fields)


def every_kind() -> list[Sample]:
    """Each start kind, and one of each that no figure may count, at times that no other sample has."""
    counting = [("created", 3500.0)]
    counting += [("plain", ms) for ms in PLAIN_MS] + [("restored", ms) for ms in RESTORED_MS]
    counting += [("warm", ms) for ms in WARM_MS]
    found = [sample(number, start, ms) for number, (start, ms) in enumerate(counting, 1)]
    kept_warm = {"verified": False, "why_not": "the same process answered before"}
    return [
        *found,
        sample(20, "restored", 5.0, **kept_warm),
        sample(21, "warm", 777.0, why_not=NEW),
        sample(22, "plain", 120_000.0, outcome="timeout", verified=False, why_not="no answer: timeout", server_ms={}),
        sample(23, "plain", 0.0, outcome="not_scaled_down", verified=False, why_not="it stayed", start_kind=""),
    ]


def content(samples: Sequence[Sample] | None = None, name: str = "builtin", **where: Any) -> dict[str, Any]:
    """What the command writes, but for the file."""
    samples = every_kind() if samples is None else samples
    titles = {target: f"the engine of {target}" for target in dict.fromkeys(one.target for one in samples)}
    found = run.build_result(name, samples, titles, 0, True)
    head = {"schema_version": record.SCHEMA_VERSION, "kind": "cold_start"}
    return {**head, "environment": {**record.describe_environment(), **where}, **found}


def made(samples: Sequence[Sample] | None = None, name: str = "builtin", **where: Any) -> Result:
    return Result.model_validate_json(json.dumps(content(samples, name, **where)))


def written(folder: Path, samples: Sequence[Sample] | None = None) -> Path:
    found = run.build_result("builtin", *arguments(every_kind() if samples is None else samples))
    return record.save_result(
        folder / "cold_start_results_builtin.json", "cold_start", found, record.describe_environment()
    )


def arguments(samples: Sequence[Sample]) -> tuple[Sequence[Sample], dict[str, str], int, bool]:
    return samples, {one.target: one.target for one in samples}, 0, True


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
