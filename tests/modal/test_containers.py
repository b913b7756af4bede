"""Containers of the small cloud: how they start, how many there are, how they end."""

from __future__ import annotations

import json
import signal
import time

import modal
import psutil
import pytest
import requests

from tests.modal.cloud import START_S
from tests.modal.conftest import APPS, KEYS, Sample, later

pytestmark = pytest.mark.soak

# Starts


def test_created_then_restored_twice(sample: Sample) -> None:
    """And a redeployment discards snapshots and overrides."""
    cloud, before, url = sample.cloud, sample.container(), sample.url
    version = cloud.app("sample").version
    with cloud.client():
        modal.Cls.from_name("sample", "Server")().web.autoscaler.update(scaledown_window=30)
        sample.deploy()
        web = modal.Cls.from_name("sample", "Server")().web
        assert web.autoscaler.settings().scaledown_window == 60
        assert web.get_web_url() == url
    cloud.until(lambda: not before.alive)
    assert (cloud.app("sample").app_id, cloud.app("sample").version) == (before.app_id, version + 1)
    states, stops = [sample.state()], sample.log.count("stopped")
    assert states[0]["task"] == states[0]["snap_task"]
    assert [each.kind for each in cloud.containers()] == ["created"]
    for _ in range(2):
        cloud.stop_containers("sample", graceful=True)
        assert cloud.containers() == []
        states.append(sample.state())
        (container,) = cloud.containers("sample")
        assert container.restored
        assert (container.pid, container.task_id) == (states[-1]["pid"], states[-1]["task"])
        assert "Restoring Function from memory snapshot." in container.log
    assert {state["snap_task"] for state in states} == {states[0]["task"]}
    for name in ("task", "pid", "boot_id"):
        assert len({state[name] for state in states}) == 3
    assert [state["requests"] for state in states] == [1, 1, 1]
    assert sample.log.count("stopped") == stops + 2


def test_several_starts_can_create_a_snapshot_and_the_task_may_change(sample: Sample) -> None:
    cloud, kinds = sample.cloud, []
    cloud.snapshots_needed, cloud.creator_keeps_task_id = 2, False
    sample.to_zero()
    cloud.discard_snapshots("sample")
    for _ in range(3):
        state = sample.state()
        assert state["task"] != state["snap_task"]
        kinds += [each.kind for each in cloud.containers()]
        sample.to_zero()
    assert kinds == ["created", "created", "restored"]


def test_a_restore_that_fails_becomes_a_plain_start(sample: Sample) -> None:
    assert sample.state()
    sample.to_zero()
    sample.cloud.broken_restores = 1
    assert sample.state()["environment"]["MODAL_ENABLE_SNAP_RESTORE"] is None
    assert [each.kind for each in sample.cloud.containers("sample")] == ["plain"]
    sample.to_zero()
    assert sample.container().restored


def test_a_start_that_fails_is_told_to_whoever_waits(sample: Sample) -> None:
    sample.to_zero()
    sample.cloud.discard_snapshots("sample")
    sample.cloud.secrets["sample-keys"] = {"API_KEY": "broken"}
    response = sample.get()
    assert response.status_code == 500
    assert "no weights here" in response.text
    sample.cloud.secrets["sample-keys"] = dict(KEYS)
    assert sample.state()["requests"] == 1


def test_serve_has_no_snapshots_and_ends_with_the_client(sample: Sample) -> None:
    other = Sample(sample.cloud, sample.mount, "served")
    served = sample.cloud.serve(APPS / "sample.py", env=other.env)
    assert other.url in served.output
    assert other.state()["environment"]["MODAL_ENABLE_SNAP_RESTORE"] is None
    (container,) = sample.cloud.containers("served")
    assert container.kind == "plain"
    note = "Memory snapshots are disabled for ephemeral apps"
    sample.cloud.until(lambda: note in served.output, lambda: served.output)
    assert served.stop() == 0
    sample.cloud.until(lambda: not container.alive)
    assert "served" not in sample.cloud.apps()
    assert f"stopped {container.task_id}" in sample.log


# Scaling


def test_the_timer_scales_down_and_stats_are_true(sample: Sample) -> None:
    with sample.cloud.client():
        web = modal.Cls.from_name("sample", "Server")().web
        first = sample.state()
        assert web.get_current_stats().num_total_runners == 1
        idle_since = time.monotonic()
        assert web.autoscaler.update(scaledown_window=2).scaledown_window == 2
        assert web.autoscaler.settings().scaledown_window == 2
        sample.cloud.until(lambda: web.get_current_stats().num_total_runners == 0)
        assert time.monotonic() - idle_since >= 2, "the window is not awaited"
        assert f"stopped {first['task']}" in sample.log
        again = sample.state()
        assert again["boot_id"] != first["boot_id"]
        web.autoscaler.update(scaledown_window=60)


def test_a_container_takes_no_more_than_its_concurrency(sample: Sample) -> None:
    sample.container()
    answers = [later(sample.get, "/hold?until=taken") for _ in range(6)]
    with sample.cloud.client():
        web = modal.Cls.from_name("sample", "Server")().web
        sample.cloud.until(lambda: web.get_current_stats().backlog == 2)
        stats = web.get_current_stats()
    assert (stats.num_running_inputs, stats.input_headroom, stats.num_total_runners) == (4, 0, 1)
    sample.release("taken")
    assert {answer.result(START_S).text for answer in answers} == {"done"}


def test_more_containers_only_if_a_setting_asks(sample: Sample) -> None:
    sample.container()
    with sample.cloud.client():
        autoscaler = modal.Cls.from_name("sample", "Server")().web.autoscaler
        autoscaler.update(max_containers=2, min_containers=2)
        sample.cloud.until(lambda: len([each for each in sample.cloud.containers("sample") if each.ready]) == 2)
        autoscaler.update(max_containers=None, min_containers=0)
    sample.to_zero()


# Stops


def test_the_command_line_lists_and_stops_containers(sample: Sample) -> None:
    container = sample.container()
    listed = sample.cloud.modal("container", "list", "--app-id", container.app_id, "--json")
    assert [row["container_id"] for row in json.loads(listed.stdout)] == [container.task_id]
    stopped = sample.cloud.modal("container", "stop", container.task_id, "-y")
    assert stopped.returncode == 0, stopped.stderr
    sample.cloud.until(lambda: not sample.cloud.containers("sample"))
    assert f"stopped {container.task_id}" in sample.log
    again = sample.cloud.modal("container", "stop", container.task_id, "-y")
    assert "already stopped" in again.stderr


def test_a_graceful_stop_finishes_what_is_in_flight(sample: Sample) -> None:
    container, answer = sample.container(), sample.hold("stopped")
    stop = later(sample.cloud.stop_containers, "sample", graceful=True)
    sample.cloud.until(lambda: container.draining)
    other = later(sample.state)  # it takes no more: this one goes to another container
    assert other.result(START_S)["task"] != container.task_id
    assert container.alive
    assert not answer.done()
    sample.release("stopped")
    assert answer.result(START_S).text == "done"
    stop.result(START_S)
    assert f"stopped {container.task_id}" in sample.log
    assert container.code == 0


def test_a_container_that_stops_fetching_is_gone(sample: Sample) -> None:
    container = sample.container()
    assert sample.get("/drain").text == "drained"
    sample.cloud.until(lambda: not container.alive)
    assert sample.state()["task"] != container.task_id


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_call_that_lost_its_container_goes_to_another(sample: Sample, how: str) -> None:
    container, answer = sample.container(), sample.hold(how)
    held = sample.log.count("hold")
    if how == "stop":
        sample.cloud.stop_containers("sample")
    else:
        sample.cloud.kill(container.task_id)
    sample.cloud.until(lambda: sample.log.count("hold") > held)
    assert not answer.done()
    sample.release(how)
    assert answer.result(START_S).text == "done"
    assert sample.container().task_id != container.task_id


def test_what_a_container_started_ends_with_it(sample: Sample) -> None:
    container, child = sample.container(), psutil.Process(int(sample.get("/child").text))
    sample.cloud.kill(container.task_id)
    sample.cloud.until(lambda: not container.alive)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_lost_call_can_be_a_failure(sample: Sample) -> None:
    sample.cloud.retries_lost = False
    container, answer = sample.container(), sample.hold("never")
    sample.cloud.kill(container.task_id, signal.SIGKILL)
    assert answer.result(START_S).status_code == 500
    assert "lost its container (exit code -9)" in answer.result().text


def test_a_call_that_ends_its_containers_is_given_up(sample: Sample) -> None:
    before = sample.log.count("crash")
    assert sample.get("/crash").status_code == 500
    assert sample.log.count("crash") == before + 3


def test_a_stream_that_loses_its_container_breaks(sample: Sample) -> None:
    container = sample.container()
    with sample.get("/events", stream=True) as stream:
        lines = stream.iter_lines()
        next(lines)
        sample.cloud.kill(container.task_id)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(lines)
