"""A page whose server only sees: pictures are read by an engine of its own, also after a kill in the middle."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import requests
from gradio_client import Client

from serving.http.child_server import ServerProcess
from tests.support.engines import have_ended
from tests.support.files import encoded, picture
from tests.support.page_calls import add_pages
from tests.support.scripted import Coloured
from tests.support.servers import make_settings, running
from tests.support.waiting import until

WORDS = ("gearbox", "tulips", "lantern", "invoice", "violin", "pepper")


def find(url: str, word: str) -> list[str]:
    client = Client(url, verbose=False)
    try:
        return [hit["line"] for hit in client.predict(word, "c", api_name="/first_results")["hits"]]
    finally:
        client.close()


@pytest.mark.soak
def test_pictures_are_read_by_an_engine_of_the_page_also_after_a_kill(tmp_path: Path) -> None:
    files = []
    for number, word in enumerate(WORDS):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(encoded(picture((900, 300), f"The {word} stands on page {number}")))
    with running(Coloured(), make_settings(tmp_path / "sees")) as (worker, _):
        arguments = ["--no-browser", "--data", str(tmp_path / "page"), "--worker", worker]
        with ServerProcess("ui.app", arguments) as page:
            client = Client(page.wait(), verbose=False)
            assert len(add_pages(client, "c", *files)["added"]) == len(WORDS)
            client.close()
            until(lambda: find(page.wait(), WORDS[0]), 60)
            family = psutil.Process(page.pid).children(recursive=True)
            page.kill()
            assert have_ended(family), "the engine goes with the page"
        with ServerProcess("ui.app", arguments) as page:
            url = page.wait()
            until(lambda: all(find(url, word) for word in WORDS), 90)
            for number, word in enumerate(WORDS):
                assert find(url, word) == [f"The {word} stands on page {number}"]
        with ServerProcess("ui.app", arguments, {"DORMOUSE_READ_PICTURES": "0"}) as page:
            assert requests.get(page.wait(), timeout=20).ok
            assert not any(
                "serving" in " ".join(child.cmdline()) and "--embedder" in child.cmdline()
                for child in psutil.Process(page.pid).children()
            )
