"""Many clients at once: what counts as an answer, what as a failure, and the bodies that are sent."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
from pathlib import Path

import pytest
from PIL import Image

from bench.results.stats import percentile
from bench.speed.load import (
    LoadResult,
    LoadTarget,
    build_chat_body,
    draw_jpegs,
    post_body,
    run_clients,
    write_bodies,
)
from tests.support.embedding_servers import answer, server


def test_figures_are_those_of_the_result_file() -> None:
    milliseconds = [float(ms) for ms in range(10, 0, -1)]
    figures = LoadResult(2, 4.0, milliseconds, ["a", "b", "c", "d"], []).as_json()
    assert figures["p95_ms"] == pytest.approx(percentile(milliseconds, 95), abs=0.06)
    assert (figures["n"], figures["per_s"], figures["max_ms"], figures["clients"]) == (10, 2.5, 10.0, 2)
    assert figures["failures"] == 4 and figures["first_failures"] == ["a", "b", "c"]


def test_without_an_answer_there_are_no_times() -> None:
    figures = LoadResult(1, 2.0, [], ["reset"], []).as_json()
    assert figures["n"] == 0 and figures["per_s"] == 0 and "p50_ms" not in figures


def test_clients_of_several_processes_send_all_bodies_in_turn(tmp_path: Path) -> None:
    folder = write_bodies(tmp_path / "bodies", [{"texts": [str(number)]} for number in range(3)])
    with server(answer(Server_Timing="embed;dur=3")) as (url, bodies):
        result = run_clients(LoadTarget(url, "/embed", folder), 3, 0.3, gap_s=0.01)
    assert (result.clients, result.failures) == (3, []) and len(result.milliseconds) > 3
    assert len(bodies) > len(result.milliseconds), "the first second is not counted"
    assert {json.loads(body)["texts"][0] for body in bodies} == {"0", "1", "2"}
    assert result.server_timings == ["embed;dur=3"] * len(result.milliseconds)
    assert result.rate == pytest.approx(len(result.milliseconds) / 0.3)


def post(url: str) -> tuple[str, str]:
    return post_body(http.client.HTTPConnection(url.removeprefix("http://"), timeout=5), "/embed", b"{}")


def test_an_error_is_a_failure_with_its_reason() -> None:
    with server(answer(503, b"starting"), answer()) as (url, _):
        assert post(url) == ("503 starting", "")
        assert post(url) == ("", "")


def test_a_broken_connection_is_a_failure_with_its_kind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert post(f"http://127.0.0.1:{port}")[0].startswith("ConnectionRefusedError")


def test_pages_are_like_scans_and_differ() -> None:
    one, other = draw_jpegs(2)
    assert Image.open(io.BytesIO(one)).size == (1240, 1754) and one != other
    assert 300_000 < len(one) < 1_000_000 and draw_jpegs(1) == [one]


def test_bodies_are_files_in_the_order_they_are_sent(tmp_path: Path) -> None:
    folder = write_bodies(tmp_path / "deep" / "bodies", [{"n": number} for number in range(12)])
    assert [json.loads(path.read_text())["n"] for path in sorted(folder.iterdir())] == list(range(12))
    with pytest.raises(FileExistsError):
        write_bodies(folder, [])


def test_a_page_for_vllm_s_own_server_has_image_and_prompt() -> None:
    body = build_chat_body(b"jpeg", "stock")
    image, text = body["messages"][0]["content"]
    assert base64.b64decode(image["image_url"]["url"].partition(",")[2]) == b"jpeg"
    assert text["text"] == "Describe this image" and body["model"] == "stock" and body["add_special_tokens"] is True
