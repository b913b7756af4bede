"""Result files of the cold-start command, read back: whole and of a version this release knows, or refused.

The models here are what `bench.coldstart.run` writes; their JSON Schema is published beside the recorded runs, and
written by `python -m bench.coldstart.result_file`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench.coldstart.sample import CREATED, KINDS, Sample, select_counted
from bench.results.record import SCHEMA_VERSION
from bench.results.stats import Ratio, Summary, bootstrap_ratio

SCHEMA = Path(__file__).parents[2] / "assets" / "cold_start_results.schema.json"
SEED = 0
"""Seed of the bootstraps of what is drawn from a file: the same file always gives the same words."""


class ResultError(ValueError):
    """A file that is no result this release can read; says which file and why."""


class ResultModel(BaseModel):
    """A part of a result file. Fields of a newer release of the same version are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Environment(ResultModel):
    """The machine that sent the requests; fields that are not named here are kept too."""

    model_config = ConfigDict(extra="allow")

    time: str
    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    packages: dict[str, str]
    commit: str
    load_average: float
    gpu: str = ""
    """Its name, memory and driver; files before 2026-11-26 have none."""

    @property
    def gpu_name(self) -> str:
        """The first GPU's name; empty if there was none."""
        return self.gpu.partition(",")[0]

    @property
    def machine(self) -> str:
        """Processor, cores and GPU in a line."""
        return ", ".join(filter(None, [self.cpu, f"{self.cores} cores", self.gpu_name]))


class MedianRatio(ResultModel):
    """A ratio of two medians with its 95 % interval and n of both."""

    value: float
    low: float
    high: float
    n: tuple[int, int]


class KindFigures(ResultModel):
    """Milliseconds of one start kind of one target."""

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None
    weak: tuple[str, ...]
    p50_interval: tuple[float, float] | None


class TrialCounts(ResultModel):
    """Trials counted by how they ended."""

    verified: int
    excluded: int
    unverified: int
    outcomes: dict[str, int]
    failed_tries: int


class TargetFigures(TrialCounts):
    """Figures of one target."""

    title: str
    plain: KindFigures
    restored: KindFigures
    warm: KindFigures
    cold_over_warm: MedianRatio | None
    plain_over_restored: MedianRatio | None
    never_cold: str


class RunFigures(ResultModel):
    """Figures of all targets together, and of each."""

    plain: Summary
    restored: Summary
    warm: Summary
    cold_over_warm: MedianRatio | None
    plain_over_restored: MedianRatio | None
    counts: TrialCounts
    targets: dict[str, TargetFigures]


class Result(ResultModel):
    """One deployment's run. Times in ms; None where nothing was measured."""

    schema_version: int
    kind: Literal["cold_start"]
    environment: Environment
    deployment_name: str
    complete: bool
    """False if it was stopped before its plan was done."""
    headline: str
    """The target that the figures at the top belong to; empty if none was verified cold."""
    cold_start_ms: float | None
    warm_start_avg_ms: float | None
    warm_start_p50_ms: float | None
    warm_start_p95_ms: float | None
    post_scaledown_cold_start_ms: float | None
    summary: RunFigures
    samples: tuple[Sample, ...]

    @model_validator(mode="after")
    def check_times(self) -> Result:
        """Raise ValueError for a time that cannot be drawn."""
        parse_time(self.environment.time)
        for sample in self.samples:
            parse_time(sample.started)
            instant = sample.outcome == "ok" and sample.client_ms == 0
            if instant or min(sample.client_ms, *sample.server_ms.values(), 0) < 0:
                raise ValueError(f"sample {sample.number} has no time that can be measured")
        return self


def load_result(path: Path) -> Result:
    """Read a result file. Raises ResultError for one that is not whole or of another version, and OSError."""
    content = path.read_bytes()
    try:
        parsed = orjson.loads(content)  # refuses NaN and infinity
    except ValueError as error:
        raise ResultError(f"{path} is not a whole JSON file: {error}") from None
    if not isinstance(parsed, dict) or parsed.get("kind") != "cold_start":
        raise ResultError(f"{path} is not a result of the cold-start command")
    version = parsed.get("schema_version")
    if version != SCHEMA_VERSION or type(version) is not int:
        newer = type(version) is int and version > SCHEMA_VERSION
        why = "was written by a newer release" if newer else "has a schema version that this release does not know"
        raise ResultError(f"{path} {why} ({version!r}; this one reads {SCHEMA_VERSION})")
    try:
        return Result.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ResultError(f"{path} is not a result as this release writes it: {where}: {first['msg']}") from None


def parse_time(text: str) -> datetime:
    """Return the time. Raises ValueError for one without a zone."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} does not say in which zone")
    return time


def build_schema() -> dict[str, Any]:
    schema = Result.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Cold-start result"}


@dataclass(frozen=True)
class Series:
    """The samples that count as one start kind of one deployment, of one target where several were restored."""

    label: str
    kind: str
    samples: Sequence[Sample]

    @property
    def ms(self) -> list[float]:
        """The client's time of each sample."""
        return [sample.client_ms for sample in self.samples]

    @property
    def title(self) -> str:
        """The label with n."""
        return f"{self.label} (n={len(self.samples)})"


def split_series(results: Sequence[Result]) -> list[Series]:
    """Return the series that have a sample. Cold starts are split by target; warm answers are one series."""
    series = []
    for number, result in enumerate(results, 1):
        prefix = f"{name_result(results, number)}: " if len(results) > 1 else ""
        for kind in KINDS:
            counted = select_counted(result.samples, kind)
            targets = [""] if kind == "warm" else list(dict.fromkeys(sample.target for sample in counted))
            for target in targets:
                label = f"{prefix}{kind}, {target}" if len(targets) > 1 else f"{prefix}{kind}"
                series.append(Series(label, kind, select_counted(counted, kind, target)))
    return [one for one in series if one.samples]


def name_result(results: Sequence[Result], number: int) -> str:
    """Return the deployment's name, with `number` (from 1) where two results have the same name."""
    name = results[number - 1].deployment_name
    return f"{name} {number}" if sum(one.deployment_name == name for one in results) > 1 else name


def select_headline(result: Result, kind: str) -> list[Sample]:
    """Return the samples that the headline speaks of: of several restored targets, those of the file's own choice."""
    restored = {sample.target for sample in select_counted(result.samples, "restored")}
    target = result.headline if kind == "restored" and result.headline in restored else ""
    return select_counted(result.samples, kind, target)


def select_start_seconds(result: Result) -> list[float]:
    """Return the seconds of the headline's cold starts, less the median warm answer. Raises ResultError for none."""
    cold = [s.client_ms for s in result.samples if s.counts_as_cold and s.target == result.headline]
    if not cold:
        raise ResultError("the result file has no verified cold starts")
    return [max(0.0, ms - (result.warm_start_p50_ms or 0.0)) / 1000 for ms in cold]


def compare_medians(above: Sequence[Sample], below: Sequence[Sample]) -> Ratio | None:
    """Return the ratio of the medians of their times; None where one has no sample."""
    if not above or not below:
        return None
    return bootstrap_ratio([s.client_ms for s in above], [s.client_ms for s in below], SEED)


def group_uncounted(result: Result) -> dict[str, list[Sample]]:
    """Return the samples that no figure counts, each in one group, by the reason."""
    used = {id(sample) for kind in KINDS for sample in select_counted(result.samples, kind)}
    groups: dict[str, list[Sample]] = {"made the snapshot": [], "not verified": [], "failed": [], "not sent": []}
    for sample in result.samples:
        if id(sample) in used:
            continue
        if sample.outcome == "not_scaled_down" or sample.client_ms == 0:
            reason = "not sent"
        elif sample.outcome != "ok":
            reason = "failed"
        else:
            reason = "made the snapshot" if sample.start_kind == CREATED and sample.kind != "warm" else "not verified"
        groups[reason].append(sample)
    return groups


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(build_schema(), indent=2) + "\n", encoding="utf-8")
