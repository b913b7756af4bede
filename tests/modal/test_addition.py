"""`dormouse add --modal` in the local cloud: the real command, the real client, several containers. No time is Modal's.

A test double of an embedder stands in the containers, which is told to be slow or full; everything else is real.
"""

from __future__ import annotations

import io
import json
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status

from serving.cloud.credentials import Keys
from serving.library.library import Library
from tests.modal.calls import Call
from tests.modal.cloud import PROXY_TOKEN, Cloud
from tests.support.commands import Dormouse, Ended, end, start, write_files
from tests.support.files import encoded, picture
from tests.support.libraries import at
from tests.support.modal_apps import APP
from tests.support.scripted_engine import NAME, script
from ui.servers import container_limit
from ui.servers.modal_target import ModalTarget

pytestmark = pytest.mark.timeout(400)

LIMIT = f"the limit of containers of {APP}"
PAGES = 24
EACH = 2
"""Requests that one container has before the next one starts: half of its concurrency."""


@dataclass
class Served:
    """The server in a cloud, and a folder of pages."""

    cloud: Cloud
    folder: Path
    pages: Path
    environment: dict[str, str] = field(default_factory=dict)

    def deploy(self, **settings: str) -> None:
        environment = {
            "DORMOUSE_MODAL_CACHE": str(self.folder / "cache"), "DORMOUSE_EMBEDDER": NAME,
            "DORMOUSE_MODAL_CONCURRENCY": str(2 * EACH), "DORMOUSE_MODAL_SCALEDOWN_WINDOW": "5", **settings,
        }  # fmt: skip
        done = self.cloud.deploy("serving/serve_hf_snapshot.py", env=environment)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def limit(self) -> int:
        return int(self.cloud.pool(APP, "Worker.*").settings.max_containers)

    def change_limit(self, containers: int) -> None:
        self.cloud.change_limit(APP, containers)

    def start(self, data: Path, *words: object, **environment: str) -> subprocess.Popen[str]:
        given = {**self.cloud.env, **TOKEN, **environment}
        return start("add", "--modal", self.pages, "--collection", "c", "--data", data, "--json", *words, **given)

    def add(self, data: Path, *words: object, **environment: str) -> Ended:
        return end(self.start(data, "--yes", *words, **environment))

    @contextmanager
    def watch(self) -> Iterator[Seen]:
        seen, ended = Seen(), threading.Event()
        pool = self.cloud.pool(APP, "Worker.*")

        def look() -> None:
            while not ended.wait(0.01):
                seen.limits.add(self.limit)
                seen.containers = max(seen.containers, len(self.cloud.containers(APP)))
                with suppress(RuntimeError):  # the cloud's own thread changes them meanwhile
                    running = [call for each in pool.live for call in each.running.values()]
                    seen.in_flight.append(sum(map(is_page, [*running, *pool.queue])))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield seen
        finally:
            ended.set()
            thread.join()


@dataclass
class Seen:
    """What the cloud was asked for meanwhile."""

    limits: set[int] = field(default_factory=set)
    containers: int = 0
    in_flight: list[int] = field(default_factory=list)


def is_page(call: Call) -> bool:
    """A page without its whole answer; not a question for the model, which each new container is asked once."""
    return not call.complete and bool(pickle.loads(call.input.args)[0][0]["path"] == "/embed")  # noqa: S301 - our own


TOKEN = {"DORMOUSE_MODAL_KEY": PROXY_TOKEN[0], "DORMOUSE_MODAL_SECRET": PROXY_TOKEN[1]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    pages = write_files(folder / "in", {f"{n}.png": encoded(picture(text=f"page {n}")) for n in range(PAGES)})
    with Cloud(grace_s=5) as cloud:
        cloud.secrets["dormouse"] = {"DORMOUSE_DATA": str(folder)}
        found = Served(cloud, folder, pages)
        script(folder)
        found.deploy()
        yield found


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    """With the limit that was deployed, and quick."""
    script(shared.folder)
    yield shared
    script(shared.folder)
    shared.cloud.retries_lost = True
    if shared.limit != 1:
        shared.change_limit(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def list_pages(data: Path) -> list[str]:
    library = Library(data)
    try:
        pages = library.catalogue.read_pages(library.catalogue.list_page_ids(at(library, "c")))
        return sorted(page.file for page in pages.values())
    finally:
        library.close()


def all_pages(count: int = PAGES) -> list[str]:
    return sorted(f"in/{n}.png" for n in range(count))


def read_lines(process: subprocess.Popen[str], kind: str, count: int) -> str:
    """What a command has written when it has told so many of a kind."""
    assert process.stdout is not None
    lines: list[str] = []
    while sum(json.loads(line)["type"] == kind for line in lines) < count:
        line = process.stdout.readline()
        assert line, "".join(lines) + (process.stderr.read() if process.stderr else "")
        lines.append(line)
    return "".join(lines)


def test_from_one_container_to_three_and_back(served: Served, data: Path) -> None:
    script(served.folder, embed_s=0.3)
    with served.watch() as seen:
        found = served.add(data, "--containers", 3)
    assert found.code == 0, found.err
    assert list_pages(data) == all_pages() and found.summary["added"] == PAGES
    assert seen.limits == {1, 3} and served.limit == 1
    # One that is up late may find that the others have taken all pages.
    assert 1 <= found.summary["containers"] <= seen.containers == 3, found.err
    assert max(seen.in_flight) == 3 * EACH, "as many as three containers take, and no more"
    assert f"{LIMIT} is 3 now, and was 1" in found.err
    assert f"{LIMIT} is 1 again" in found.err
    assert not list(data.glob("modal-limit-*.json"))
    summary = found.summary
    assert 0 < summary["container_seconds_least"] < summary["container_seconds_most"]
    assert 0 < summary["dollars_per_1000_least"] < summary["dollars_per_1000_most"]
    (estimate,) = found.select("estimate")
    assert (estimate["pages"], estimate["containers"]) == (PAGES, 3)
    assert "not known before the first 20 pages" in found.err and "an hour of all containers is $6.80" in found.err
    assert "the first 20 pages of this job" in found.err


@pytest.mark.soak
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_puts_the_limit_back_and_the_rest_is_added_later(
    served: Served, data: Path, how: signal.Signals
) -> None:
    script(served.folder, embed_s=0.3)
    process = served.start(data, "--yes", "--containers", 3)
    before = read_lines(process, "page", 3)
    assert served.limit == 3
    process.send_signal(how)
    ended = end(process, before)
    assert ended.code == 130 and "stopped: " in ended.err and served.limit == 1, ended.err
    assert f"{LIMIT} is 1 again" in ended.err and "pages/s" not in ended.out
    kept = list_pages(data)
    assert 3 <= len(kept) == ended.summary["added"] < PAGES
    if how is not signal.SIGINT:
        return
    script(served.folder)
    again = served.add(data, "--containers", 2)
    assert (again.code, again.summary["added"]) == (0, PAGES - len(kept)), again.err
    assert list_pages(data) == all_pages() and served.limit == 1


@pytest.mark.soak
def test_a_second_ctrl_c_puts_the_limit_back_at_once(served: Served, data: Path) -> None:
    script(served.folder, embed_s=0.3)
    process = served.start(data, "--yes", "--containers", 3)
    before = read_lines(process, "page", 2)
    script(served.folder, embed_s=40)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert served.limit == 3 and process.poll() is None, "pages are on the way"
    process.send_signal(signal.SIGINT)
    served.cloud.until(lambda: served.limit == 1 and not list(data.glob("modal-limit-*.json")), timeout=30)
    assert process.poll() is None, "it did not wait for them"
    process.kill()
    end(process, before)
    served.cloud.stop_containers(APP)


@pytest.mark.soak
def test_after_a_kill_the_next_job_puts_the_limit_back(served: Served, data: Path) -> None:
    script(served.folder, embed_s=0.3)
    process = served.start(data, "--yes", "--containers", 3)
    before = read_lines(process, "page", 3)
    process.kill()
    end(process, before)
    assert served.limit == 3, "nobody was there to put it back"
    (note,) = data.glob("modal-limit-*.json")
    assert json.loads(note.read_text()) == {"app": APP, "before": 1, "raised": 3}
    assert note.stat().st_mode & 0o777 == 0o600
    elsewhere = served.add(data.with_name("elsewhere"), "--containers", 4)
    assert elsewhere.code == 1 and f"{LIMIT} is 3, and 1 was deployed" in elsewhere.err
    script(served.folder)
    with served.watch() as seen:
        again = served.add(data, "--containers", 2)
    assert again.code == 0 and list_pages(data) == all_pages(), again.err
    told = f"a job did not end well: {LIMIT} was 1, and 3 meanwhile"
    assert told in again.err and served.limit == 1 and seen.limits >= {3, 1, 2}
    assert not list(data.glob("modal-limit-*.json"))


@pytest.mark.soak
def test_after_a_kill_a_deployment_puts_the_limit_back(served: Served, data: Path, capsys: Any) -> None:
    data.mkdir()
    note = data / f"modal-limit-{APP}.json"
    note.write_text(json.dumps({"app": APP, "before": 1, "raised": 3}))
    served.change_limit(3)
    with served.cloud.client():
        container_limit.put_back_left(data, print)
    assert served.limit == 1 and not note.exists()
    assert "was 1, and 3 meanwhile" in capsys.readouterr().out


@pytest.mark.soak
def test_a_failure_puts_the_limit_back(served: Served, data: Path) -> None:
    served.cloud.stop_containers(APP)
    with served.watch() as seen:
        found = served.add(data, "--containers", 3, DORMOUSE_MODAL_SECRET="ws-wrong")
    assert found.code == 1 and "HTTP 401" in found.err and "Traceback" not in found.err
    assert seen.limits == {1, 3} and served.limit == 1 and seen.containers == 0, "strangers start nothing"
    assert list_pages(data) == []


@pytest.mark.long
@pytest.mark.soak
def test_two_jobs_do_not_change_each_others_limit(served: Served, data: Path, tmp_path: Path) -> None:
    script(served.folder, embed_s=1)
    process = served.start(data, "--yes", "--containers", 3)
    before = read_lines(process, "page", 1)
    script(served.folder, embed_s=20)  # so that it is still there when the other one asks
    second = served.add(tmp_path / "other", "--containers", 4)
    assert process.poll() is None and served.limit == 3
    assert second.code == 1 and "another job or somebody else has changed it" in second.err
    same = served.add(data, "--containers", 4)
    assert same.code == 1 and "another program is using the collections" in same.err and served.limit == 3
    script(served.folder)
    ended = end(process, before)
    assert ended.code == 0 and list_pages(data) == all_pages() and served.limit == 1, ended.err


@pytest.mark.soak
def test_a_job_that_needs_no_more_than_there_is_raises_nothing(served: Served, data: Path) -> None:
    served.change_limit(3)
    found = served.add(data, "--containers", 2)
    assert found.code == 0 and list_pages(data) == all_pages(), found.err
    assert LIMIT not in found.err and served.limit == 3


@pytest.mark.soak
def test_a_limit_that_somebody_else_has_set_meanwhile_stays(served: Served, data: Path) -> None:
    script(served.folder, embed_s=0.3)
    process = served.start(data, "--yes", "--containers", 3)
    before = read_lines(process, "page", 2)
    served.change_limit(5)
    ended = end(process, before)
    assert ended.code == 0 and served.limit == 5
    assert f"{LIMIT} is 5 now, not the 3 of this job: that stays as it is" in ended.err


@pytest.mark.soak
def test_modal_that_cannot_be_asked_in_the_end_is_told(served: Served, data: Path) -> None:
    script(served.folder, embed_s=0.3)
    process = served.start(data, "--yes", "--containers", 3)
    before = read_lines(process, "page", 2)
    served.cloud.fail("FunctionUpdateSchedulingParams", Status.PERMISSION_DENIED, "not any more")
    try:
        ended = end(process, before)
    finally:
        served.cloud.mend("FunctionUpdateSchedulingParams")
    assert "may still be 3 instead of 1 (this token may not do that (not any more)" in ended.err
    assert list_pages(data) == all_pages() and list(data.glob("modal-limit-*.json")), "the next job tries again"


@pytest.mark.soak
@pytest.mark.parametrize("retries_lost", [True, False])
def test_a_container_that_is_killed_loses_and_doubles_nothing(served: Served, data: Path, retries_lost: bool) -> None:
    served.cloud.retries_lost = retries_lost
    script(served.folder, embed_s=0.4)
    process = served.start(data, "--yes", "--containers", 3)
    before = read_lines(process, "page", 4)
    busy = next(each for each in served.cloud.containers(APP) if each.running)
    served.cloud.kill(busy.task_id)
    ended = end(process, before)
    assert (ended.code, ended.summary["added"], ended.summary["skipped"]) == (0, PAGES, 0), ended.out + ended.err
    assert list_pages(data) == all_pages() and served.limit == 1


@pytest.mark.soak
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--containers", 0), 2, "--containers"),
        (("--containers", -3), 2, "--containers"),
        (("--containers", 10_001), 2, "--containers"),
        (("--containers", "many"), 2, "--containers"),
        (("--containers", 5000), 1, "5,000 containers take 10,000 pages at once"),
        (("--worker", "http://127.0.0.1:9"), 2, "is not on Modal"),
        (("--worker", "modal:elsewhere"), 1, "elsewhere is not deployed"),
        (("--pages-per-s", "-1"), 2, "--pages-per-s"),
    ],
)
def test_what_cannot_be_is_told_and_changes_nothing(
    served: Served, data: Path, words: tuple[object, ...], code: int, said: str
) -> None:
    with served.watch() as seen:
        found = end(served.start(data, "--yes", *words))
    assert found.code == code and said in found.err, found.err
    assert seen.limits == {1} and seen.containers <= 3 and not list(data.glob("modal-limit-*.json"))


@pytest.mark.soak
def test_without_a_terminal_somebody_has_to_say_yes(served: Served, data: Path) -> None:
    found = end(served.start(data, "--containers", 3))
    assert found.code == 2 and "nobody can be asked here whether the estimate is fine: say --yes" in found.err
    assert end(start("add", served.pages, "--collection", "c", "--containers", "3")).code == 2


@pytest.mark.soak
def test_the_estimate_is_that_of_the_last_job_and_is_asked_about(
    served: Served, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in TOKEN.items():
        monkeypatch.setenv(name, value)
    dormouse = Dormouse(capsys, ("--data", str(data)))
    with served.cloud.client():
        first = dormouse("add", "--modal", served.pages, "--collection", "c", "--yes", "--pages-per-s", 4)
        assert first.code == 0 and "estimate, at 4.00 pages/s a container (given by --pages-per-s)" in first.err
        assert "pages/s, by 1 container" in first.out and "$" in first.out
        for said, code in (("\n", 130), ("n\n", 130), ("y\n", 0)):
            terminal = io.StringIO(said)
            terminal.isatty = lambda: True  # type: ignore[method-assign]
            monkeypatch.setattr(sys, "stdin", terminal)
            found = dormouse("add", "--modal", served.pages, "--collection", f"d{code}", "--containers", 3)
            assert found.code == code and "Start? [y/N]" in found.err
            assert f"(measured with {PAGES} pages on " in found.err
            assert "its limit is 1 now, and is put back at the end" in found.err
            assert ("nothing was started" in found.err) == (code == 130)
        names = dormouse("list").out
    assert "d130" not in names and "d0" in names


@pytest.mark.soak
def test_the_page_follows_the_limit_of_its_server(served: Served, tmp_path: Path) -> None:
    with served.cloud.client():
        target = ModalTarget("", APP, Keys(), tmp_path)
        assert target.fetch_places() == EACH
        served.change_limit(3)
        assert target.fetch_places() == 3 * EACH
        target.containers = 2
        assert target.fetch_places() == 2 * EACH
        served.cloud.fail("FunctionGetSchedulingParams", Status.INTERNAL, "later")
        try:
            assert target.fetch_places() is None
        finally:
            served.cloud.mend("FunctionGetSchedulingParams")


@pytest.mark.soak
def test_a_server_that_is_full_is_sent_less_and_gets_all_the_same(tmp_path: Path) -> None:
    """429 for what its queue does not take, 503 for what it does not do in time."""
    pages = write_files(tmp_path / "in", {f"{n}.png": encoded(picture(text=f"page {n}")) for n in range(PAGES)})
    folder, data = tmp_path / "server", tmp_path / "data"
    folder.mkdir()
    script(folder, embed_s=0.3)
    with Cloud(grace_s=5) as cloud:
        secret = {"DORMOUSE_DATA": str(folder), "DORMOUSE_PAGE_QUEUE": "1", "DORMOUSE_REQUEST_TIMEOUT_S": "1"}
        cloud.secrets["dormouse"] = secret
        served = Served(cloud, folder, pages)
        served.deploy(DORMOUSE_MODAL_CONCURRENCY="24")
        with served.watch() as seen:
            found = served.add(data)
        answers = Counter(str(call.answered.items[0].get("status")) for call in cloud.calls.values() if call.started)
    assert found.code == 0, found.err
    assert list_pages(data) == all_pages() and found.summary["skipped"] == 0
    assert answers["429"] + answers["503"] > 3 and answers["200"] >= PAGES, answers
    busy = [count for count in seen.in_flight if count]
    assert max(busy) > 6 and sum(busy[-len(busy) // 3 :]) < max(busy) * len(busy) / 3 / 2, busy
