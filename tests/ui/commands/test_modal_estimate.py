"""What is said of a job by a server on Modal before it starts and when it has ended; in a cloud: tests/modal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cost.prices import price_machine
from serving.cloud.server_shape import ServerShape, parse_shape
from ui.commands.modal_estimate import FEWEST, KEPT, JobHistory, JobRecord, Outcome, Plan, Speed, find_speed
from ui.servers.container_usage import Usage

SHAPE = ServerShape("L40S", 4.0, 16.0, 1, 32)
PLAN = Plan("app", 1000, True, 8, 1, SHAPE, 60.0, (10.0,), Speed(20.0, "given"))
PRICE = price_machine("L40S", None, 4, 16).per_s
RECORD = JobRecord(at=1.7e9, gpu="L40S", pages=100, seconds=9.0, containers=2, least_s=5.0, most_s=140.0)


def test_the_estimate_is_the_bench_s_simulation() -> None:
    took, container_s = PLAN.estimate(1000, Speed(20.0, "given"), (10.0,))
    assert took == pytest.approx(10 + 1000 / (8 * 20))
    assert container_s == pytest.approx(8 * 10 + 1000 / 20 + 8 * 60)
    lines = PLAN.describe()
    assert lines[0] == (
        "1,000 pages to app: at most 8 containers (its limit is 1 now, and is put back at the end), 256 pages at once"
    )
    assert "Modal's price list" in lines[1] and f"at ${3600 * PRICE:.3f} an hour" in lines[1]
    assert f"16 s, 610 container-seconds, ${610 * PRICE:.4f}, ${610 * PRICE:.4f} for 1,000 pages" in lines[2]
    assert "without starts, of which none is known" in replace(PLAN, starts_s=()).describe()[2]


def test_a_speed_that_nobody_measured_is_not_made_up() -> None:
    unknown = replace(PLAN, speed=None, limit=8, are_all=False)
    first, _, last = unknown.describe()
    assert first == "at least 1,000 pages to app: at most 8 containers, 256 pages at once"
    assert f"not known before the first {FEWEST} pages are in" in last
    assert f"an hour of all containers is ${8 * 3600 * PRICE:.2f}" in last


def test_a_machine_without_a_price_has_no_cost() -> None:
    plan = replace(PLAN, shape=replace(SHAPE, gpu="X9000"))
    assert plan.price is None and "no list price is known" in plan.describe()[1] and "$" not in "".join(plan.describe())
    fields = Outcome(plan, 10, 2.0, Usage(1, 1.0, 2.0)).as_fields()
    assert (fields["dollars_per_1000_least"], fields["container_seconds_most"]) == (None, 2.0)


def test_the_speed_is_that_of_the_last_job_on_this_gpu() -> None:
    few, other = RECORD.model_copy(update={"pages": FEWEST - 1}), RECORD.model_copy(update={"gpu": "H100"})
    found = find_speed([RECORD, few, other], "L40S", None)
    assert found is not None and found.per_s == 20.0 and found.source == "measured with 100 pages on 2023-11-14"
    assert find_speed([few, other], "L40S", None) is None
    assert find_speed([RECORD], "L40S", 3.0) == Speed(3.0, "given by --pages-per-s")


def test_the_last_jobs_are_remembered(tmp_path: Path) -> None:
    history = JobHistory(tmp_path, "app")
    assert history.read() == ()
    for pages in range(KEPT + 5):
        history.add(RECORD.model_copy(update={"pages": pages}))
    assert [record.pages for record in history.read()] == list(range(5, KEPT + 5))
    (tmp_path / "modal-jobs-app.json").write_text("{half")
    assert history.read() == ()


def test_both_bounds_stand_beside_the_estimate() -> None:
    lines = Outcome(PLAN, 1000, 20.0, Usage(8, 60.0, 600.0)).describe()
    assert lines[0] == "1,000 pages in 20 s, 50.00 pages/s, by 8 containers"
    assert f"at least 60.0 container-seconds, ${60 * PRICE:.4f}" in lines[1]
    assert f"at most 600.0 container-seconds, ${600 * PRICE:.4f}" in lines[2] and "610 container-seconds" in lines[3]
    assert "not known, Modal's counts" in Outcome(PLAN, 1000, 20.0, Usage(8, 60.0, None)).describe()[2]


@pytest.mark.parametrize("change", [{"containers": "0"}, {"requests": "many"}, {"gpu": None}, {"cores": ""}])
def test_tags_of_somebody_else_are_no_shape(change: dict[str, str | None]) -> None:
    tags = SHAPE.as_tags()
    assert parse_shape({**tags, "team": "search"}) == SHAPE
    ((name, value),) = change.items()
    changed = {**tags, f"dormouse-{name}": value}
    assert parse_shape({name: value for name, value in changed.items() if value is not None}) is None
