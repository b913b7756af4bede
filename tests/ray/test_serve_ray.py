"""The application at zero and with one replica: its routes, keys, errors and headers, and how it keeps a worker."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest
import requests

pytest.importorskip("ray", reason="Ray is not installed here: make test-ray has a venv with it")

from bench.__main__ import main as bench
from serving.client import EmbeddingClient
from tests.ray.cluster import KEY, Deployed

pytestmark = pytest.mark.timeout(600)
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
MODEL = "builtin-ocr-e5"


@pytest.fixture(scope="module", autouse=True)
def builtin(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Deploy the built-in embedder, at zero."""
    deployed.options = {"data": tmp_path_factory.mktemp("builtin")}
    deployed.run()
    deployed.until(lambda: EmbeddingClient(deployed.url).fetch_info().name == MODEL)
    deployed.until_zero()  # a version takes over as many replicas as the one before it had


def test_what_needs_no_worker_starts_none(deployed: Deployed) -> None:
    url = deployed.url
    assert requests.get(url + "/health", timeout=20).json() == {"status": "alive"}
    assert requests.get(url + "/ready", timeout=20).json() == {"status": "ready"}
    assert EmbeddingClient(url).fetch_info().name == MODEL  # as the page asks
    models = requests.get(url + "/v1/models", headers=WITH_KEY, timeout=20).json()
    assert [model["id"] for model in models["data"]] == [MODEL]
    assert requests.get(url + "/metrics", headers=WITH_KEY, timeout=20).status_code == 200
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        assert not deployed.replicas() + deployed.replicas(state="STARTING")
        requests.get(url + "/health", timeout=20)
        time.sleep(0.2)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}])
def test_a_wrong_key_starts_nothing(deployed: Deployed, headers: dict[str, str]) -> None:
    for path in ("/embed", "/v1/embeddings"):
        refused = requests.post(deployed.url + path, json={"texts": ["x"]}, headers=headers, timeout=20)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
    assert requests.get(deployed.url + "/metrics", headers=headers, timeout=20).status_code == 401
    assert not deployed.replicas() + deployed.replicas(state="STARTING")


def test_routes_of_an_engine_are_not_there(deployed: Deployed) -> None:
    for path in ("/engine", "/scaledown", "/nothing"):
        found = requests.get(deployed.url + path, headers={**WITH_KEY, "X-Admin-Key": "any"}, timeout=20)
        assert (found.status_code, found.json()["error"]["code"]) == (404, "not_found"), path


@pytest.mark.long
def test_the_bench_proves_a_cold_start(deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_WORKER_KEY", KEY)
    options = ["--repetitions", "1", "--num-warmup", "3", "--test-scaledown", "--scaledown-wait", "35"]
    assert bench(["--url", deployed.url, *options, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "cold_start_results_builtin.json").read_text())
    samples = [one for one in result["samples"] if one["kind"] != "warm"]
    assert [(one["verified"], one["start_kind"] in ("plain", "restored")) for one in samples] == [(True, True)] * 2
    assert len({one["boot_id"] for one in samples}) == 2


def test_an_answer_proves_who_gave_it(deployed: Deployed) -> None:
    body = {"model": MODEL, "input": ["total due"]}
    found = [requests.post(deployed.url + "/v1/embeddings", json=body, headers=WITH_KEY, timeout=90) for _ in range(2)]
    first, second = (one.headers for one in found)
    assert [one.status_code for one in found] == [200, 200]
    assert first["X-Boot-Id"] == second["X-Boot-Id"]
    assert int(second["X-Boot-Requests"]) == int(first["X-Boot-Requests"]) + 1
    assert first["X-Start-Kind"] in ("plain", "created", "restored")
    assert first["X-Fingerprint"] == EmbeddingClient(deployed.url).fetch_info().fingerprint
    assert "dur=" in first["Server-Timing"]


def test_errors_have_the_shape_of_a_worker(deployed: Deployed) -> None:
    for body, status, code in (
        ({"texts": [1]}, 400, "bad_value"),
        ({"texts": ["x"], "dimensions": 7}, 400, "bad_value"),
        ({"images": ["bm8gcGljdHVyZQ=="]}, 415, "not_an_image"),
    ):
        found = requests.post(deployed.url + "/embed", json=body, headers=WITH_KEY, timeout=90)
        assert (found.status_code, found.json()["error"]["code"]) == (status, code)
        assert found.headers["X-Boot-Id"]
    form = requests.post(deployed.url + "/embed", data="texts=x", headers=WITH_KEY, timeout=20)
    assert (form.status_code, "X-Boot-Id" in form.headers) == (400, False)


def test_metrics_are_those_of_the_workers(deployed: Deployed) -> None:
    assert 'worker="0"' in requests.get(deployed.url + "/metrics", headers=WITH_KEY, timeout=20).text


def test_short_requests_keep_a_worker(deployed: Deployed) -> None:
    """Ray's own rule does not see them: it would take this worker away within the half minute."""
    client = EmbeddingClient(deployed.url, KEY)
    boots = {client.embed_queries(["total due"]).boot_id}
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        time.sleep(1.7)
        boots.add(client.embed_queries(["total due"]).boot_id)
    assert len(boots) == 1


def test_only_this_machine_reaches_the_proxies(deployed: Deployed) -> None:
    port = int(deployed.url.rpartition(":")[2])
    found = [one.laddr for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port]
    assert {address.ip for address in found} == {"127.0.0.1"}


def test_an_idle_worker_goes(deployed: Deployed) -> None:
    assert EmbeddingClient(deployed.url, KEY).embed_queries(["total due"]).retries == 0
    deployed.until_zero()
    deployed.until(lambda: not deployed.processes())
