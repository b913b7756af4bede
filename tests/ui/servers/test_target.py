"""The servers of a page: their names, what they say of themselves, and what happens where one is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from serving.client import EmbeddingClient
from serving.errors import BadValueError, NotReadyError
from serving.http.child_server import ServerProcess
from serving.http.event_stream import parse_events
from serving.library import fingerprints
from serving.library.catalogue import FingerprintError
from serving.library.library import Library
from serving.settings import Settings
from tests.support.engines import EngineProcess
from tests.support.equivalence_proofs import proof
from tests.support.files import encoded, picture
from tests.support.libraries import at, made
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running
from tests.support.uploads import upload
from tests.support.waiting import until
from ui.app import make_parser
from ui.core.service import Question, Service
from ui.servers.state_feed import EngineStateFeed
from ui.servers.target import Target, Targets, address_of, split_name_and_url

NOWHERE = "http://127.0.0.1:9"


class Other(Scripted):
    title = "Another test double"
    fingerprint = "scripted-2"


@pytest.fixture
def two(tmp_path: Path, settings: Settings) -> Iterator[tuple[Service, Scripted, Scripted]]:
    """A page with the servers `one` and `two`, of different fingerprints, and `gone`, where nobody is."""
    first, second = Scripted(), Other()
    with (
        running(first, make_settings(tmp_path / "1")) as (one, _),
        running(second, make_settings(tmp_path / "2")) as (other, _),
    ):
        places = (("one", one), ("two", other), ("gone", NOWHERE))
        targets = [Target(EmbeddingClient(url, unreachable_s=0.6), name) for name, url in places]
        service = Service(Targets(targets), Library(tmp_path / "library"), settings)
        yield service, first, second
        service.close()


def add(service: Service, folder: Path, collection: str, target: str, side: int = 40) -> str:
    """What went wrong, if anything."""
    file = upload(folder, f"{side}.png", encoded(picture((side, side))))
    job = service.ingestor.start(made(service.library, collection), [file], service.targets.get(target))
    assert job.finished.wait(30)
    return job.error


def test_each_call_goes_to_the_server_it_names(two: tuple[Service, Scripted, Scripted], tmp_path: Path) -> None:
    service, first, second = two
    assert add(service, tmp_path, "a", "one") == "" and (len(first.calls), len(second.calls)) == (1, 0)
    assert add(service, tmp_path, "b", "two") == "" and (len(first.calls), len(second.calls)) == (1, 1)
    assert (
        service.search(Question("q"), at(service.library, "a"), 3).hits
        and service.search(Question("q"), at(service.library, "b"), 3, target="two").hits
    )
    assert (len(first.calls), len(second.calls)) == (2, 2)
    for name in ("three", "ONE", ["one"], 7):
        with pytest.raises(BadValueError, match="there is no server with that name: one, two, gone"):
            service.search(Question("q"), at(service.library, "a"), 3, target=name)  # type: ignore[arg-type]


def test_vectors_that_cannot_meet_are_refused_before_a_worker_is_woken(
    two: tuple[Service, Scripted, Scripted], tmp_path: Path
) -> None:
    service, _, second = two
    assert add(service, tmp_path, "a", "one") == ""
    with pytest.raises(FingerprintError, match="python -m bench parity"):
        service.search(Question("q"), at(service.library, "a"), 3, target="two")
    assert "another embedder" in add(service, tmp_path, "a", "two", 50)
    assert second.calls == [] and service.library.catalogue.find_collection("a").pages == 1
    fingerprints.add_proof(service.library.folder, proof("scripted-2", "scripted-1"))
    assert add(service, tmp_path, "a", "two", 50) == "" and service.library.catalogue.find_collection("a").pages == 2
    assert len(service.search(Question("q"), at(service.library, "a"), 3, target="two").hits) == 2
    assert len(service.search(Question("q"), at(service.library, "a"), 3, target="one").hits) == 2


def test_server_that_was_started_with_another_model_is_asked_again(
    two: tuple[Service, Scripted, Scripted], tmp_path: Path
) -> None:
    service, first, second = two
    assert add(service, tmp_path, "a", "one") == ""
    assert service.targets.get("two").fetch_info().fingerprint == "scripted-2"
    second.fingerprint = "scripted-1"
    assert service.search(Question("q"), at(service.library, "a"), 3, target="two").hits, (
        "what it said earlier is not held against it"
    )
    first.fingerprint = "scripted-9"
    with pytest.raises(FingerprintError, match="now scripted-9"):
        service.search(Question("q"), at(service.library, "a"), 3, target="one")


def test_one_that_is_not_there_fails_alone_and_soon(two: tuple[Service, Scripted, Scripted], tmp_path: Path) -> None:
    service, _, _ = two
    began = time.monotonic()
    assert "nothing answers" in add(service, tmp_path, "a", "gone")
    with pytest.raises(NotReadyError, match=r"nothing answers at http://127\.0\.0\.1:9: is the worker running"):
        service.search(Question("q"), at(service.library, "a"), 3, target="gone")
    assert time.monotonic() - began < 20, "it does not wait as long as a start may take"
    assert add(service, tmp_path, "a", "two") == ""


def test_titles_are_shown_names_are_used(tmp_path: Path) -> None:
    with (
        running(Scripted(), make_settings(tmp_path / "1")) as (one, _),
        running(Other(), make_settings(tmp_path / "2")) as (two, _),
    ):
        places = [one, two, two + "/", NOWHERE]
        targets = Targets(
            [
                Target(EmbeddingClient(url, unreachable_s=0), name)
                for url, name in zip(places, ("", "", "mine", ""), strict=True)
            ]
        )
        names = [address_of(one), address_of(two), "mine", "127.0.0.1:9"]
        assert targets.list_choices() == [(name, name) for name in names]
        *_, last = targets.fetch_titles()
        assert last == list(
            zip(["Scripted test double", "Another test double", "mine", "127.0.0.1:9"], names, strict=True)
        )
        twins = Targets([Target(EmbeddingClient(two)), Target(EmbeddingClient(two.replace("127.0.0.1", "localhost")))])
        *_, last = twins.fetch_titles()
        assert [title for title, _ in last] == [f"Another test double ({target.name})" for target in twins]
    assert targets.get(None) is targets.get("") is targets.first and targets.get("mine").client.url == two
    assert targets.get_or_first("unknown") is targets.get_or_first(None) is targets.first
    with pytest.raises(BadValueError, match="--worker NAME=URL"):
        Targets([Target(EmbeddingClient(one)), Target(EmbeddingClient(one))])


def test_workers_on_the_command_line() -> None:
    assert split_name_and_url("http://x:1/?a=b") == ("", "http://x:1/?a=b") and split_name_and_url(
        "GPU 1=https://x"
    ) == (
        "GPU 1",
        "https://x",
    )
    assert split_name_and_url("no address") == ("", "no address")
    assert address_of("https://me:secret@x.example:8443/base/?key=secret") == "x.example:8443/base"
    options = make_parser().parse_args(["--worker", "hf=http://x:1", "--worker", "http://x:2"])
    assert options.worker == [("hf", "http://x:1"), ("", "http://x:2")] and make_parser().parse_args([]).worker is None
    for bad in ("=http://x", "a/b=http://x", "a\x1b=http://x", "n" * 41 + "=http://x"):
        with pytest.raises(SystemExit):
            make_parser().parse_args(["--worker", bad])
    for url, local in (
        ("http://[", False),
        ("http://x:1", False),
        ("http://localhost:1", True),
        ("https://[::1]/x", True),
        ("http://1.2", False),
    ):
        assert Target(EmbeddingClient(url)).is_local is local


@pytest.mark.soak
def test_each_has_a_state_of_its_own(tmp_path: Path) -> None:
    options = [
        "--no-browser",
        "--data",
        str(tmp_path),
        "--worker",
        f"one={NOWHERE}",
        "--worker",
        "two=http://127.0.0.1:8",
    ]
    with ServerProcess("ui.app", options, {"DORMOUSE_ADMIN_KEY_1": "of-the-first"}) as page:
        url = page.wait()

        def reason(query: str) -> str:
            return str(requests.get(url + "/status" + query, timeout=5).json()["reason"])

        until(lambda: reason("").startswith("Not reachable"))
        assert reason("?target=one") == reason("?target=nobody") == reason("")
        assert reason("?target=two").startswith("Runs elsewhere")
        with requests.get(url + "/status/events?target=two", stream=True, timeout=5) as stream:
            assert b"Runs elsewhere" in next(parse_events(stream.iter_content(None)))[1]


@pytest.mark.parametrize(("workers", "places"), [("1", None), ("2", 16)])
def test_an_engine_of_several_workers_says_how_many_pages_it_takes(
    tmp_path: Path, workers: str, places: int | None
) -> None:
    with EngineProcess(tmp_path, "plain", "--workers", workers) as engine:
        url, key = engine.wait(), engine.admin["X-Admin-Key"]
        target = Target(EmbeddingClient(url), feed=EngineStateFeed(lambda: (url, key)))
        assert target.fetch_places() == places and engine.status()["state"] == "zero", "asking wakes none"
        assert Target(EmbeddingClient(url), feed=EngineStateFeed(lambda: (url, "wrong"))).fetch_places() is None
    assert target.fetch_places() is None and Target(EmbeddingClient(url)).fetch_places() is None
