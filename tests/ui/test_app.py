"""Real processes: how they start, refuse, stop and take each other along."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from gradio_client import Client, handle_file

from serving.http.child_server import ProcessFailed, ServerProcess
from serving.http.event_stream import parse_events
from serving.http.server import is_loopback
from tests.support.hostile_pdfs import NESTED, hostile_pdf
from tests.support.repository import SAMPLES
from tests.support.states import NOW, elsewhere, engine
from tests.support.waiting import until
from ui.app import make_parser

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=ROOT, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("module", ["serving", "ui.app", "bench", "ui"])
def test_help(module: str) -> None:
    found = run(module, "--help")
    assert found.returncode == 0 and "usage:" in found.stdout


def test_taken_port_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for module in ("serving", "ui.app"):
            found = run(module, "--port", port, "--data", str(tmp_path))
            assert found.returncode == 2 and "Choose another --port" in found.stderr
            assert "Traceback" not in found.stderr


def test_open_to_others_needs_keys(tmp_path: Path) -> None:
    found = run("serving", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path))  # noqa: S104
    assert found.returncode == 2 and "set DORMOUSE_API_KEYS" in found.stderr
    assert all(is_loopback(host) for host in ("127.0.0.1", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example"))  # noqa: S104


def test_failing_child_is_told() -> None:
    with ServerProcess("serving", ["--no-such-option"]) as child, pytest.raises(ProcessFailed, match="exit code"):
        child.wait()


@pytest.mark.soak
def test_engine_stops_politely_and_keeps_its_admin_key(tmp_path: Path) -> None:
    key_file = tmp_path / "admin.key"
    with ServerProcess("serving", ["--data", str(tmp_path)]) as engine:
        url = engine.wait()
        key = key_file.read_text()
        assert len(key) >= 32 and oct(key_file.stat().st_mode)[-3:] == "600"
        codes = []
        picture = {"images": [base64.b64encode((SAMPLES / "invoice-aurora-lamps.jpg").read_bytes()).decode()]}
        asking = threading.Thread(
            target=lambda: codes.append(requests.post(url + "/embed", json=picture, timeout=60).status_code)
        )
        asking.start()
        time.sleep(0.4)
        engine.terminate()
        asking.join(30)
        assert codes == [200], "what was in flight is finished"
        assert engine.stop() == 0
    with ServerProcess("serving", ["--data", str(tmp_path)]) as again:
        again.wait()
        assert key_file.read_text() == key
        again.terminate()
        assert again.stop() == 0


CHATTY = """
import os, sys
print("chatty is ready at http://127.0.0.1:1", flush=True)
sys.stderr.buffer.write(b"not UTF-8: \\xff\\n")
for number in range(40_000):
    print(f"{number} a line that fills every pipe on the way" + 100 * " ", file=sys.stderr)
print("the last line")
os.close(1), os.close(2)
sys.stdin.read()
"""
PARENT = """
from serving.http.child_server import ServerProcess
child = ServerProcess("chatty")
child.wait(30)
print(child.ended.wait(30), child.running, child.tail.splitlines()[-1], child.stop())
"""


@pytest.mark.parametrize("stderr", ["closed", "broken", "full"])
def test_a_child_goes_on_whatever_becomes_of_its_parents_stderr(tmp_path: Path, stderr: str) -> None:
    """Closed from the start, a pipe whose reader has gone, and one that nobody reads."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    reading, writing = os.pipe()
    if stderr == "broken":
        os.close(reading)
    command = [sys.executable, "-c", PARENT]
    found = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command] if stderr == "closed" else command,
        stdout=subprocess.PIPE, stderr=writing, text=True, timeout=90, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )  # fmt: skip
    os.close(writing)
    if stderr != "broken":
        os.close(reading)
    assert found.stdout.strip() == "True True the last line 0"


@pytest.mark.soak
def test_worker_goes_quietly_when_its_owner_goes(tmp_path: Path) -> None:
    worker = ServerProcess("serving", ["--data", str(tmp_path)])
    worker.wait()
    worker.terminate()  # with the pipe still open: the thread that watches it must not end the interpreter badly
    until(lambda: not worker.running, 20)
    assert worker.stop() == 0 and "Fatal" not in worker.tail
    worker = ServerProcess("serving", ["--data", str(tmp_path)])
    worker.wait()
    assert worker.stop() == 0 and not worker.running


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def uploaded(data: Path) -> list[str]:
    return [path.name for path in (data / "uploads").rglob("*") if path.is_file()]


@pytest.mark.soak
def test_killed_page_takes_its_worker_along_and_loses_nothing(tmp_path: Path) -> None:
    page = ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path)])
    sent = {"files": ("page.txt", b"a page of somebody")}
    requests.post(f"{page.wait()}/gradio_api/upload", files=sent, timeout=20).raise_for_status()
    assert uploaded(tmp_path) == ["page.txt"]
    until(lambda: len(children(page.pid)) > 1, 20)  # the engine has begun to start its worker
    family = children(page.pid)
    page.kill()
    gone, alive = psutil.wait_procs(family, timeout=20)
    assert not alive and len(gone) == len(family)
    page.stop()
    (tmp_path / "uploads" / "mine.txt").write_text("was there before")
    with ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path)]) as again:
        again.wait()
        assert uploaded(tmp_path) == ["mine.txt"], "uploads of a page that was killed stay, or what is not ours went"
        second = run("ui.app", "--no-browser", "--port", "0", "--data", str(tmp_path))
        assert second.returncode == 2 and "another process is using the library" in second.stderr


@pytest.mark.soak
def test_page_stops_in_the_middle_of_uploads_that_wait(tmp_path: Path) -> None:
    page = ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path)])
    client = Client(page.wait(), verbose=False)
    files = [handle_file(path) for path in sorted(SAMPLES.glob("*.jpg"))]
    jobs = [client.submit(files, name, api_name="/add_pages") for name in ("a", "b")]
    time.sleep(3)
    began = time.monotonic()
    page.terminate()
    until(lambda: not page.running, 30)
    assert page.stop() == 0 and time.monotonic() - began < 30
    assert len(jobs) == 2


@pytest.mark.soak
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_page_ends_in_the_middle_of_a_pdf_that_does_not(how: signal.Signals, tmp_path: Path) -> None:
    """Such a file is being added and is asked with; nobody hears of a deadline meanwhile."""
    hostile = tmp_path / "slow.pdf"
    hostile.write_bytes(hostile_pdf(NESTED, "Some words"))
    patience = {"DORMOUSE_PARSER_TIMEOUT_S": "600"}
    page = ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path / "data")], patience)
    client = Client(page.wait(), verbose=False)
    receipt = handle_file(SAMPLES / "receipt-corner-larder.jpg")
    assert len(client.predict([receipt], "c", api_name="/add_pages")["added"]) == 1
    waiting = [
        client.submit([handle_file(hostile)], "c", api_name="/add_pages"),
        client.submit("", handle_file(hostile), "c", 3, None, api_name="/search"),
    ]
    until(lambda: sum(child.cpu_times().user > 1 for child in readers(page.pid)) == 2, 60)
    maps = Path(f"/proc/{page.pid}/maps")
    assert not maps.exists() or "pdfium" not in maps.read_text(), "PDFium is in the page's own process"
    assert client.predict("what did I buy?", None, "c", 3, None, api_name="/search")["hits"]
    family = children(page.pid)
    began = time.monotonic()
    os.kill(page.pid, how)
    until(lambda: not page.running, 30)
    assert page.stop() == (0 if how is signal.SIGTERM else -how) and time.monotonic() - began < 30
    assert not psutil.wait_procs(family, timeout=20)[1]
    assert len(waiting) == 2


def readers(pid: int) -> list[psutil.Process]:
    return [child for child in children(pid) if "serving.documents.parser_process" in child.cmdline()]


def test_mistakes_at_the_start_are_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for module in ("serving", "ui.app"):
        for arguments in (["--data", str(tmp_path / "file")], ["--data", str(tmp_path), "--port", "99999"]):
            found = run(module, "--port", "0", *arguments)
            assert found.returncode == 2 and "Traceback" not in found.stderr, found.stderr
    found = run("ui.app", "--port", "0", "--data", str(tmp_path), "--worker", "localhost:8123")
    assert found.returncode == 2 and "begins with http" in found.stderr


@pytest.mark.soak
def test_page_stops_soon_with_an_open_tab(tmp_path: Path) -> None:
    page = ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path)])
    url = page.wait()
    family = children(page.pid)
    tab = requests.get(f"{url}/gradio_api/heartbeat/tab", stream=True, timeout=10)
    assert next(tab.iter_content(16))
    began = time.monotonic()
    os.kill(page.pid, signal.SIGINT)
    until(lambda: not page.running, 15)
    assert page.stop() == 0 and time.monotonic() - began < 15
    assert "Traceback" not in page.tail
    assert not psutil.wait_procs(family, timeout=10)[1]
    tab.close()


def test_options_of_the_engine_are_checked_by_the_page() -> None:
    options = make_parser().parse_args(["--snapshot", "fork", "--scaledown-window", "2.5"])
    assert options.snapshot == "fork" and options.scaledown_window == 2.5
    for bad in (["--snapshot", "magic"], ["--scaledown-window", "1"], ["--scaledown-window", "nan"]):
        with pytest.raises(SystemExit):
            make_parser().parse_args(bad)


# The real page


def stream(url: str) -> Iterator[dict[str, Any]]:
    with requests.get(url + "/status/events", stream=True, timeout=(5, 30)) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        for _, data in parse_events(response.iter_content(None)):
            yield json.loads(data)


def test_page_tells_of_its_engine_and_stops_with_open_streams(tmp_path: Path) -> None:
    arguments = ["--no-browser", "--data", str(tmp_path), "--snapshot", "plain"]
    page = ServerProcess("ui.app", arguments, {"DORMOUSE_START_AHEAD": "0"})
    url = page.wait()
    until(lambda: requests.get(url + "/status", timeout=5).json()["state"] == "zero", 20)
    found = requests.get(url + "/status", timeout=5)
    assert found.headers["Cache-Control"] == "no-store" and found.json()["backend"] == "plain"
    (engine,) = psutil.Process(page.pid).children()
    for secret in ((tmp_path / "admin.key").read_text(), str(tmp_path), "pid"):
        assert secret not in found.text
    for path in ("/status", "/status/events"):
        foreign = requests.get(url + path, headers={"Host": "evil.example"}, timeout=5)
        assert foreign.status_code == 400, "a name that points at this machine reads nothing"
        assert requests.post(url + path, timeout=5).status_code == 404

    tabs = [stream(url) for _ in range(3)]
    assert [next(tab)["state"] for tab in tabs] == ["zero"] * 3
    engine.kill()
    told = [next(tabs[0])["state"] for _ in range(2)]
    assert told == ["unknown", "zero"], "an engine that was started again has another port"

    began = time.monotonic()
    page.terminate()
    assert list(tabs[1])[-1]["state"] == "zero", "a stream ends whole"
    assert page.stop() == 0 and time.monotonic() - began < 10
    assert "Traceback" not in page.tail


def test_page_asks_nothing_of_an_embedder_elsewhere(tmp_path: Path) -> None:
    with elsewhere(200, b"{}") as (worker, asked):
        arguments = ["--no-browser", "--data", str(tmp_path), "--worker", worker]
        with ServerProcess("ui.app", arguments) as page:
            url = page.wait()
            tab = stream(url)
            assert "Runs elsewhere" in next(tab)["parts"]["words"]
            found = requests.get(url + "/status", timeout=5).json()
            assert found == {"state": "unknown", "reason": "Runs elsewhere: its state is not known to this page"}
            tab.close()  # type: ignore[attr-defined]
        assert asked == []


def test_page_reads_an_engine_elsewhere_with_its_admin_key(tmp_path: Path) -> None:
    body = b"event: engine\ndata: " + json.dumps(engine(state="serving", scaledown_at=NOW + 30)).encode() + b"\n\n"
    with elsewhere(200, body) as (worker, asked):
        arguments = ["--no-browser", "--data", str(tmp_path), "--worker", worker]
        with ServerProcess("ui.app", arguments, {"DORMOUSE_ADMIN_KEY": "of-the-engine"}) as page:
            seen = [next(tab) for tab in [stream(page.wait())]]
            until(lambda: asked)
        assert set(asked) == {("/engine/events", "of-the-engine")}
        assert seen[0]["state"] in ("serving", "unknown")
