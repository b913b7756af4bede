"""What can be reached from outside: our routes, none of vLLM's, and no address."""

from __future__ import annotations

import socket
import threading

import psutil
import pytest
import requests

from tests.vllm.conftest import Served

VLLMS_OWN = [
    "/tokenize", "/detokenize", "/pooling", "/invocations", "/score", "/rerank", "/v1/score", "/v1/rerank", "/v2/embed",
    "/v1/completions", "/v1/chat/completions", "/collective_rpc", "/reset_mm_cache", "/reset_prefix_cache", "/pause",
    "/release_kv_cache_memory", "/update_weights", "/server_info", "/is_sleeping", "/load", "/version", "/ping",
    "/docs", "/openapi.json", "/kv_event_sources",
]  # fmt: skip


@pytest.mark.parametrize("path", VLLMS_OWN)
def test_vllms_own_routes_do_not_exist(path: str, vllm: Served) -> None:
    for method in ("GET", "POST"):
        headers = vllm.engine.admin if method == "POST" else {}
        response = requests.request(method, vllm.url + path, headers=headers, json={}, timeout=30)
        assert response.status_code == 404, (method, response.text)


def test_no_port_is_open_but_the_doors(vllm: Served) -> None:
    vllm.embed(["up"])
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for process in [psutil.Process(vllm.engine.pid), *vllm.engine.family()]
        for connection in process.net_connections("inet")
        if connection.status == "LISTEN"
    }
    assert any(vllm.url.endswith(f":{port}") for _, port in listening)
    assert [address for address in listening if address[0] not in ("127.0.0.1", "::1")] == []


def test_an_address_is_refused_and_never_fetched(vllm: Served) -> None:
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1.0)

        def listen() -> None:
            try:
                listener.accept()[0].close()
                came.set()
            except TimeoutError:
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/page.png"
        message = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
        for path, body in (
            ("/embed", {"images": [url]}),
            ("/v1/embeddings", {"messages": message}),
            ("/v1/embeddings", {"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}),
        ):  # fmt: skip
            response = vllm.post(path, body)
            assert response.status_code == 400 and "never fetched" in response.text, response.text
        thread.join()
    assert not came.is_set()


def test_it_says_what_it_is(vllm: Served, hf: Served) -> None:
    for server, title in ((vllm, "vLLM"), (hf, "HuggingFace")):
        about = requests.get(server.url + "/", timeout=30).json()
        assert about["model"] == "bigemma3" and title in str(about)
        assert requests.get(server.url + "/v1/models", timeout=30).json()["data"][0]["id"] == "bigemma3"
    prints = {server.post("/embed", {"texts": ["a"]}).headers["X-Fingerprint"] for server in (vllm, hf)}
    assert len(prints) == 2 and any(found.startswith("bigemma3-vllm-") for found in prints)
