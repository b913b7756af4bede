"""Two replicas under load, and what is killed or replaced meanwhile. With a test double of an embedder: each query
takes a quarter of a second and no core, so that a small machine can carry the load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed here: make test-ray has a venv with it")

from serving.client import EmbeddingClient
from tests.ray.cluster import KEY, Deployed
from tests.ray.load import Seen, load
from tests.support.criu import tool
from tests.support.scripted_engine import NAME, script

pytestmark = pytest.mark.timeout(600)
CLIENTS = 16


@pytest.fixture(scope="module")
def scripted(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Deployed anew, at zero."""
    data = tmp_path_factory.mktemp("scripted")
    script(data, embed_s=0.25)
    deployed.options = {"embedder": NAME, "device": "cpu", "data": data}
    deployed.run()
    deployed.until(lambda: EmbeddingClient(deployed.url).fetch_info().name == "scripted")
    deployed.until_zero()
    return deployed


@pytest.fixture
def loads(scripted: Deployed) -> Iterator[tuple[Seen, Seen]]:
    """What clients see of two replicas: sixteen that try again, and two that do not."""
    with load(scripted.url, KEY, CLIENTS) as seen, load(scripted.url, KEY, 2, raw=True) as raw:
        scripted.until(lambda: scripted.replicas() == 2 and len(seen.boots) >= 2)
        yield seen, raw
    assert not seen.failures
    assert len(seen.vectors) == 1


@pytest.mark.long
def test_a_replica_comes_from_the_snapshot_of_its_node(scripted: Deployed) -> None:
    if tool() is None:
        pytest.skip("no criu 4.1 or newer is here")
    client = EmbeddingClient(scripted.url, KEY)
    assert client.embed_queries(["total due"]).start_kind == "created"
    scripted.processes()[0].kill()
    again = client.embed_queries(["total due"])
    assert (again.start_kind, again.boot_requests) == ("restored", 1)


@pytest.mark.long
def test_from_zero_to_two_replicas_and_to_zero(scripted: Deployed) -> None:
    scripted.until_zero()
    with load(scripted.url, KEY, CLIENTS) as seen:
        scripted.until(lambda: len(seen.boots) == 2)
        assert scripted.replicas() == 2
    assert not seen.failures
    scripted.until_zero()


def test_a_replica_killed_under_load_fails_no_request(scripted: Deployed, loads: tuple[Seen, Seen]) -> None:
    seen, raw = loads
    before = set(seen.boots)
    scripted.processes()[0].kill()
    scripted.until(lambda: set(seen.boots) - before)
    assert not raw.failures


@pytest.mark.long
def test_a_killed_worker_ends_its_replica_and_fails_no_request(scripted: Deployed, loads: tuple[Seen, Seen]) -> None:
    seen, raw = loads
    before = set(seen.boots)
    replica = scripted.processes()[0]
    family = replica.children(recursive=True)
    family[-1].kill()
    assert not psutil.wait_procs([replica, *family], timeout=20)[1]
    scripted.until(lambda: set(seen.boots) - before)
    assert not raw.failures


@pytest.mark.long
def test_a_version_change_fails_no_request(scripted: Deployed, loads: tuple[Seen, Seen]) -> None:
    seen, raw = loads
    before = set(seen.boots)
    scripted.run(target_ongoing_requests=5)
    scripted.until(lambda: len(set(seen.boots) - before) >= 2)
    old = {boot: seen.boots[boot] for boot in before}
    count = seen.answers
    scripted.until(lambda: seen.answers > count + 100)
    assert old == {boot: seen.boots[boot] for boot in before}, "an old worker still answers"
    assert not raw.failures


def test_a_node_killed_under_load_fails_no_request_of_our_client(scripted: Deployed, loads: tuple[Seen, Seen]) -> None:
    """One that does not try again sees its connections to that node break, or Ray's bare 500 for a lost front."""
    scripted.until(lambda: scripted.replicas("front") == 2)
    seen, raw = loads
    began = seen.answers
    scripted.cluster.remove_node(scripted.second, allow_graceful=False)
    scripted.until(lambda: seen.answers > began + 200)
    print(f"raw: {raw.answers} answers, failures {raw.failures}; retries of our client: {seen.retries}")
    assert all("Connection" in failure or failure.startswith("500") for failure in raw.failures), raw.failures


def test_a_new_node_takes_its_share(scripted: Deployed) -> None:
    scripted.add_node()
    scripted.until(lambda: scripted.replicas("front") == 2)
    with load(scripted.url, KEY, CLIENTS) as seen:
        scripted.until(lambda: scripted.replicas() == 2 and len(seen.boots) >= 2)
    assert not seen.failures


def test_no_key_is_in_a_log_of_ray(scripted: Deployed) -> None:
    logs = [path for path in Path(scripted.cluster.head_node.get_logs_dir_path()).rglob("*") if path.is_file()]
    assert any(b"start of Scripted test double took" in path.read_bytes() for path in logs)
    assert not [path for path in logs if KEY.encode() in path.read_bytes()]
