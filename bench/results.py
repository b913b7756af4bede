"""Result files of the cold-start command, read back: whole and of a version this release knows, or refused.

The shapes here are what `bench.coldstart` writes; their JSON Schema is published beside the recorded runs
(`python -m bench.results` writes it). Knows nothing of how results are drawn or told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench.measure import CREATED, Sample
from bench.record import SCHEMA_VERSION
from bench.stats import Ratio, Summary, bootstrap_ratio

SCHEMA = Path(__file__).parent.parent / "assets" / "cold_start_results.schema.json"
KINDS = ("plain", "restored", "warm")
"""What is counted, in the order of every figure and table."""
SEED = 0
"""Of the bootstraps of what is drawn from a file: the same file always gives the same words."""


class ResultError(ValueError):
    """A file that is no result this release can read; says which file and why."""


class ResultModel(BaseModel):
    """Fields of a newer release of the same version are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Environment(ResultModel):
    """The machine that asked; what else was recorded of it is kept too."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="allow")

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
    """Its name, memory and driver; files before 2026-11-26 do not tell."""

    @property
    def gpu_name(self) -> str:
        """Of the first one; empty if there was none."""
        return self.gpu.partition(",")[0]

    @property
    def machine(self) -> str:
        """In a few words."""
        return ", ".join(filter(None, [self.cpu, f"{self.cores} cores", self.gpu_name]))


class MedianRatio(ResultModel):
    """Of two medians, with its 95 % interval and n of both."""

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
    verified: int
    excluded: int
    unverified: int
    outcomes: dict[str, int]
    failed_tries: int


class TargetFigures(TrialCounts):
    """One way of coming back."""

    title: str
    plain: KindFigures
    restored: KindFigures
    warm: KindFigures
    cold_over_warm: MedianRatio | None
    plain_over_restored: MedianRatio | None
    never_cold: str


class RunFigures(ResultModel):
    plain: Summary
    restored: Summary
    warm: Summary
    cold_over_warm: MedianRatio | None
    plain_over_restored: MedianRatio | None
    counts: TrialCounts
    targets: dict[str, TargetFigures]


class Result(ResultModel):
    """One deployment's run. Milliseconds; None where nothing was measured."""

    schema_version: int
    kind: Literal["cold_start"]
    environment: Environment
    deployment_name: str
    complete: bool
    """False if it was stopped before its plan was done."""
    headline: str
    """The target that the figures at the top are of; empty if none was verified cold."""
    cold_start_ms: float | None
    warm_start_avg_ms: float | None
    warm_start_p50_ms: float | None
    warm_start_p95_ms: float | None
    post_scaledown_cold_start_ms: float | None
    summary: RunFigures
    samples: tuple[Sample, ...]

    @model_validator(mode="after")
    def drawable(self) -> Result:
        parse_time(self.environment.time)
        for sample in self.samples:
            parse_time(sample.started)
            if min(sample.client_ms, *sample.server_ms.values(), 0) < 0 or (
                sample.outcome == "ok" and sample.client_ms == 0
            ):
                raise ValueError(f"sample {sample.number} has no time that can be measured")
        return self


def load_result(path: Path) -> Result:
    """Raises ResultError for what is not a whole result of this version, OSError for what cannot be read."""
    content = path.read_bytes()
    try:
        found = json.loads(content, parse_constant=refuse_number, parse_float=parse_finite)
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path} is not a whole JSON file: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != "cold_start":
        raise ResultError(f"{path} is not a result of the cold-start command")
    version = found.get("schema_version")
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


def refuse_number(name: str) -> NoReturn:
    raise ResultError(f"it holds {name}, which is not a number that can be measured")


def parse_finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else refuse_number(text)


def parse_time(text: str) -> datetime:
    """Raises ValueError for what is no time with a zone."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} does not say in which zone")
    return found


def build_schema() -> dict[str, Any]:
    """The JSON Schema of a result file."""
    found = Result.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "Cold-start result"}


@dataclass(frozen=True)
class Series:
    """The samples that count as one start kind of one deployment, in one way of coming back."""

    label: str
    kind: str
    samples: tuple[Sample, ...]

    @property
    def ms(self) -> list[float]:
        return [sample.client_ms for sample in self.samples]

    @property
    def titled(self) -> str:
        return f"{self.label} (n={len(self.samples)})"


def select_counted(result: Result, kind: str, target: str = "") -> tuple[Sample, ...]:
    """Of all targets, or of one. Nothing that is not verified is ever among them."""
    if kind == "warm":
        return tuple(s for s in result.samples if s.warm and target in ("", s.target))
    return tuple(s for s in result.samples if s.cold and s.start_kind == kind and target in ("", s.target))


def split_series(results: Sequence[Result]) -> list[Series]:
    """Those with a sample. Each way of coming back stands alone; warm is one server, however it came back."""
    found = []
    for number, result in enumerate(results, 1):
        prefix = f"{name_result(results, number)}: " if len(results) > 1 else ""
        for kind in KINDS:
            targets = [""] if kind == "warm" else list(dict.fromkeys(s.target for s in select_counted(result, kind)))
            for target in targets:
                way = f", {target}" if len(targets) > 1 else ""
                found.append(Series(f"{prefix}{kind}{way}", kind, select_counted(result, kind, target)))
    return [one for one in found if one.samples]


def name_result(results: Sequence[Result], number: int) -> str:
    """The deployment's name, with its number where two have the same. `number` counts from 1."""
    name = results[number - 1].deployment_name
    return f"{name} {number}" if sum(one.deployment_name == name for one in results) > 1 else name


def select_headline(result: Result, kind: str) -> tuple[Sample, ...]:
    """What the headline speaks of: of several ways of being restored, the file's own choice."""
    ways = {sample.target for sample in select_counted(result, "restored")}
    return select_counted(result, kind, result.headline if kind == "restored" and result.headline in ways else "")


def compare_medians(above: Sequence[Sample], below: Sequence[Sample]) -> Ratio | None:
    """Of the medians of their times; None where one is missing."""
    if not above or not below:
        return None
    return bootstrap_ratio([s.client_ms for s in above], [s.client_ms for s in below], SEED)


def group_uncounted(result: Result) -> dict[str, list[Sample]]:
    """The samples that no figure counts, by why: each is in one group."""
    used = {id(sample) for kind in KINDS for sample in select_counted(result, kind)}
    groups: dict[str, list[Sample]] = {"made the snapshot": [], "not verified": [], "failed": [], "not sent": []}
    for sample in result.samples:
        if id(sample) not in used:
            groups[why_uncounted(sample)].append(sample)
    return groups


def why_uncounted(sample: Sample) -> str:
    if sample.outcome == "not_scaled_down" or sample.client_ms == 0:
        return "not sent"
    if sample.outcome != "ok":
        return "failed"
    return "made the snapshot" if sample.start_kind == CREATED and sample.kind != "warm" else "not verified"


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(build_schema(), indent=2) + "\n", encoding="utf-8")
