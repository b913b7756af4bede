"""Whose collections are whose: on a page that is open to everybody, behind a password, and where nothing may change."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from serving.http.child_server import ServerProcess
from serving.library.library import Library
from tests.support.files import encoded, picture
from tests.support.libraries import UNKNOWN, add, new
from tests.support.scripted import Scripted
from tests.support.servers import ScriptedWorker, make_settings, running

ANNA, BEN = "a" * 32, "b" * 32
DATA: list[Path] = []
"""Of the open page."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(Scripted(), make_settings(tmp_path_factory.mktemp("worker"))) as (url, _):
        yield url


def operators_library(folder: Path) -> str:
    """With a page of whoever has the machine; its key."""
    library = Library(folder)
    add(library, new(dimension=2560), "house", "scripted-1")
    key = library.catalogue.find_collection("house").key
    library.close()
    return key


@pytest.fixture(scope="module")
def open_page(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Its address, and the key of the operator's collection."""
    data = tmp_path_factory.mktemp("open").resolve()
    DATA.append(data)
    key = operators_library(data)
    words = ["--no-browser", "--host", "0.0.0.0", "--worker", worker, "--data", str(data)]  # noqa: S104
    with ServerProcess("ui.app", words) as page:
        yield page.wait().replace("0.0.0.0", "127.0.0.1"), key  # noqa: S104


def visitor(url: str, token: str = "", **more: object) -> Client:
    headers = {"Cookie": f"dormouse={token}"} if token else {}
    return Client(url, verbose=False, headers=headers, **more)  # type: ignore[arg-type]


class Browsing:
    """A page that is open in somebody's browser: its own events, which are not in the API."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.cookies, self.session = f"{url}/gradio_api/queue", {"dormouse": token}, secrets.token_hex(6)
        self.config = requests.get(f"{url}/config", timeout=30).json()

    def event(self, element: str, kind: str, *data: object) -> str:
        """What it answers, as it is sent."""
        (widget,) = [n["id"] for n in self.config["components"] if n["props"].get("elem_id") == element]
        number = next(
            n["id"]
            for n in self.config["dependencies"]
            if [widget, kind] in n["targets"] and len(n["inputs"]) == len(data) and n["backend_fn"]
        )
        body = {"data": data, "fn_index": number, "session_hash": self.session}
        requests.post(f"{self.url}/join", json=body, cookies=self.cookies, timeout=30).raise_for_status()
        query = {"session_hash": self.session}
        told = ""
        with requests.get(f"{self.url}/data", query, cookies=self.cookies, stream=True, timeout=60) as answer:
            for line in answer.iter_lines():
                if b'"process_' in line:
                    message = json.loads(line.removeprefix(b"data: "))
                    told += json.dumps(message["output"]) if "output" in message else ""
                    if message["msg"] == "process_completed":
                        assert message["success"], message
                        break
        return told


def test_each_browser_is_known_by_a_cookie_that_scripts_cannot_read(open_page: tuple[str, str]) -> None:
    answer = requests.get(open_page[0], timeout=30)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and len(answer.cookies["dormouse"]) == 32
    assert answer.headers["Cache-Control"] == "no-store"
    assert requests.get(open_page[0], timeout=30).cookies["dormouse"] != answer.cookies["dormouse"]
    assert "Set-Cookie" not in requests.get(open_page[0], cookies=answer.cookies, timeout=30).headers
    assert "Set-Cookie" in requests.get(open_page[0], cookies={"dormouse": "guess"}, timeout=30).headers


def test_names_reach_ones_own_and_keys_what_was_shared(open_page: tuple[str, str], tmp_path: Path) -> None:
    url, operators = open_page
    anna, ben, nobody = visitor(url, ANNA), visitor(url, BEN), visitor(url)
    (tmp_path / "a.png").write_bytes(encoded(picture((90, 60))))
    page = anna.predict([handle_file(tmp_path / "a.png")], "house", api_name="/add_pages")["added"][0]["id"]
    (mine,) = anna.predict(api_name="/collections")["collections"]
    assert (mine["name"], mine["pages"]) == ("house", 1) and mine["collection"] != operators

    assert ben.predict("a", None, "house", 5, None, api_name="/search")["hits"] == []
    assert ben.predict("house", [page], api_name="/delete_pages")["deleted"] == []
    assert ben.predict(api_name="/collections")["collections"] == [], "who asks about a name makes nothing"
    assert ben.predict("a", None, mine["collection"], 5, None, api_name="/search")["hits"][0]["id"] == page
    assert ben.predict("a", None, operators, 5, None, api_name="/search")["hits"][0]["file"] == "a.png"

    assert nobody.predict(api_name="/collections")["collections"] == []
    for call in (
        lambda: nobody.predict("a", None, "house", 5, None, api_name="/search"),
        lambda: nobody.predict([handle_file(tmp_path / "a.png")], "house", api_name="/add_pages"),
        lambda: nobody.predict("house", api_name="/delete_collection"),
    ):
        with pytest.raises(AppError, match="by its id only"):
            call()
    with pytest.raises(AppError, match="no such collection"):
        ben.predict("a", None, UNKNOWN, 5, None, api_name="/search")
    made = nobody.predict("mine", api_name="/new_collection")["collection"]
    assert nobody.predict([handle_file(tmp_path / "a.png")], made, api_name="/add_pages")["added"]
    assert nobody.predict(made, api_name="/delete_collection") == {"deleted": 1}
    for client in (anna, ben, nobody):
        client.close()


def test_what_others_have_is_not_scored_or_listed_by_its_name(open_page: tuple[str, str], tmp_path: Path) -> None:
    url, operators = open_page
    anna, ben, nobody = visitor(url, ANNA), visitor(url, BEN), visitor(url)
    (tmp_path / "secret.png").write_bytes(encoded(picture((70, 50), "deeds")))
    page = anna.predict([handle_file(tmp_path / "secret.png")], "deeds", api_name="/add_pages")["added"][0]["id"]
    (key,) = [n["collection"] for n in anna.predict(api_name="/collections")["collections"] if n["name"] == "deeds"]

    def scored(client: Client, collection: str, files: list[str] | None = None) -> list[str]:
        found = client.predict(["a question"], collection, None, None, files, None, api_name="/score_pages")
        return [found["id"] for found in found["pages"]]

    assert scored(anna, "deeds") == scored(ben, key) == scored(ben, key, ["secret.png"]) == [page]
    assert scored(ben, "deeds") == scored(ben, "deeds", ["secret.png"]) == scored(ben, "house") == []
    with pytest.raises(AppError, match="by its id only"):
        scored(nobody, "deeds")
    with pytest.raises(AppError, match="no such collection"):
        scored(ben, UNKNOWN)
    for client, collection, told in (
        (ben, "deeds", "not in the collection"), (nobody, "deeds", "by its id only"), (ben, UNKNOWN, "no such"),
    ):  # fmt: skip
        with pytest.raises(AppError, match=told):
            client.predict("a question", page, collection, api_name="/where")

    for token, collection, file, seen in (
        (ANNA, "deeds", "secret.png", True), (BEN, key, "secret.png", True), (BEN, "deeds", "secret.png", False),
        (BEN, operators, "a.png", True), (BEN, "house", "a.png", False),
    ):  # fmt: skip
        browser = Browsing(url, token)
        scores = browser.event("score", "click", "a question", collection, None, [], [], [], "any", "all")
        panel = browser.event("collection", "input", collection)
        question = ("a question", operators, "5", None, None, 50, 0, [], [], [], "any", "all")
        assert "a.png" in browser.event("search", "click", *question)
        again = browser.event("only-types", "change", None, collection, "5", None, [], ["png"], [], "any", "all")
        assert [file in scores, "scores.csv" in scores, file in panel, file in again] == [seen] * 4
    for client in (anna, ben, nobody):
        client.close()


def test_what_others_have_is_not_reached_by_their_pages_or_names(open_page: tuple[str, str], tmp_path: Path) -> None:
    """Whoever knows a page's id, a collection's name or a path of the server gets no further than without."""
    url, _ = open_page
    anna, ben = visitor(url, ANNA), visitor(url, BEN)
    (tmp_path / "will.png").write_bytes(encoded(picture((75, 55), "will")))
    page = anna.predict([handle_file(tmp_path / "will.png")], "papers", api_name="/add_pages")["added"][0]["id"]
    (key,) = [n["collection"] for n in anna.predict(api_name="/collections")["collections"] if n["name"] == "papers"]
    mine = ben.predict("mine", api_name="/new_collection")["collection"]

    for collection in (mine, "papers"):
        with pytest.raises(AppError, match="not in the collection"):
            ben.predict("", None, collection, 5, None, None, None, page, api_name="/search")
        assert ben.predict(collection, [page], api_name="/delete_pages") == {"deleted": [], "missing": [page]}
    assert ben.predict(mine, [page], mine, api_name="/move_pages") == {"moved": [], "stayed": [page]}
    assert ben.predict("papers", api_name="/delete_collection") == {"deleted": 0}
    guess = key[:-1] + ("0" if key[-1] != "0" else "1")
    for call in (
        lambda: ben.predict("papers", [page], mine, api_name="/move_pages"),
        lambda: ben.predict("papers", api_name="/export_collection"),
        lambda: ben.predict("papers", "stolen", api_name="/rename_collection"),
        lambda: ben.predict(guess, [page], api_name="/delete_pages"),
        lambda: ben.predict(guess, "stolen", api_name="/rename_collection"),
        lambda: ben.predict(guess, [page], mine, api_name="/move_pages"),
        lambda: ben.predict(mine, [page], guess, api_name="/move_pages"),
        lambda: ben.predict(guess, api_name="/export_collection"),
        lambda: ben.predict(guess, api_name="/delete_collection"),
        lambda: ben.predict(["a"], guess, None, None, api_name="/score_pages"),
        lambda: ben.predict([handle_file(tmp_path / "will.png")], guess, api_name="/add_pages"),
    ):
        with pytest.raises(AppError, match="no such collection"):
            call()
    (still,) = [n for n in anna.predict(api_name="/collections")["collections"] if n["collection"] == key]
    assert (still["name"], still["pages"]) == ("papers", 1)

    exported = anna.predict("papers", api_name="/export_collection")["url"].removeprefix("/exports/")
    for path in (f"pages/{page}.jpg", f"pages/{page}.webp", f"exports/{exported}", "library.db", "uploads"):
        for start in ("", f"{DATA[0]}/", f"{DATA[0]}/uploads/../"):
            answer = requests.get(f"{url}/gradio_api/file={start}{path}", cookies={"dormouse": BEN}, timeout=10)
            assert answer.status_code in (403, 404)
    for path in ("/gradio_api/mcp", "/gradio_api/mcp/", "/gradio_api/mcp/sse", "/gradio_api/mcp/http"):
        call_of_a_tool = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert requests.post(url + path, json=call_of_a_tool, timeout=10).status_code in (404, 405)
    anna.close(), ben.close()


def test_a_name_makes_a_collection_where_pages_are_added_or_it_is_typed_and_nowhere_else(
    open_page: tuple[str, str], tmp_path: Path
) -> None:
    url, _ = open_page
    token = secrets.token_hex(16)
    somebody, browser = visitor(url, token), Browsing(url, token)
    names = lambda: [found["name"] for found in somebody.predict(api_name="/collections")["collections"]]  # noqa: E731
    somebody.predict("a question", None, "asked about", 5, None, api_name="/search")
    somebody.predict("asked about", ["0" * 16], api_name="/delete_pages")
    browser.event("search", "click", "a question", "asked about", "5", None, None, 50, 0, [], [], [], "any", "all")
    assert requests.get(f"{url}/?c=asked%20about", cookies={"dormouse": token}, timeout=30).ok and names() == []
    browser.event("collection", "input", "typed")
    assert names() == ["typed"]
    (tmp_path / "a.png").write_bytes(encoded(picture((90, 60))))
    assert somebody.predict([handle_file(tmp_path / "a.png")], "added to", api_name="/add_pages")["added"]
    assert names() == ["added to", "typed"]
    for name in names():
        somebody.predict(name, api_name="/delete_collection")
        assert somebody.predict("a", None, name, 5, None, api_name="/search")["hits"] == []
    assert names() == []
    somebody.close()


def test_a_choice_that_is_told_twice_changes_nothing(open_page: tuple[str, str]) -> None:
    """A dropdown's `input` may fire twice: what moved, and the hits, stay."""
    url, operators = open_page
    browser = Browsing(url, ANNA)
    browser.event("search", "click", "a question", operators, "5", None, None, 50, 0, [], [], [], "any", "all")
    choice = (None, operators, "5", None, [], [], [], "any", "768")
    first, second = (browser.event("dimension", "input", *choice) for _ in range(2))
    assert "in 768 dimensions" in first and "in 768" not in second and "/pages/" not in second
    assert "/pages/" in browser.event("dimension", "input", *choice[:-1], "all")


def test_nothing_changes_where_the_page_is_read_only(worker: str, tmp_path: Path) -> None:
    key = operators_library(tmp_path / "data")
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    words = ["--no-browser", "--read-only", "--host", "0.0.0.0"]  # noqa: S104
    with ServerProcess("ui.app", [*words, "--worker", worker, "--data", str(tmp_path / "data")]) as page:
        url = page.wait().replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        client = visitor(url)
        (hit,) = client.predict("a", None, "house", 5, None, api_name="/search")["hits"]
        for call in (
            lambda: client.predict([handle_file(tmp_path / "a.png")], "house", api_name="/add_pages"),
            lambda: client.predict("house", [hit["id"]], api_name="/delete_pages"),
            lambda: client.predict("house", api_name="/delete_collection"),
            lambda: client.predict("new", api_name="/new_collection"),
            lambda: client.predict("house", "new", api_name="/rename_collection"),
            lambda: client.predict(api_name="/start_bench"),
            lambda: client.predict(api_name="/scaledown"),
        ):
            with pytest.raises(AppError, match="can be searched only"):
                call()
        assert client.predict(key, api_name="/export_collection")["pages"] == 1
        client.close()
        with pytest.raises(AssertionError, match=r"Not scaled do.*changed or deleted here"):
            Browsing(url, ANNA).event("scaledown", "click", "", True)
        assert "1 page from 1 file" in Browsing(url, ANNA).event("collection", "input", "house")
    library = Library(tmp_path / "data")
    assert [(found.name, found.pages) for found in library.catalogue.list_collections()] == [("house", 1)]
    library.close()


def test_a_worker_is_never_asked_about_a_collection_that_is_not_there(scripted: ScriptedWorker, tmp_path: Path) -> None:
    with ServerProcess("ui.app", ["--no-browser", "--worker", scripted.url, "--data", str(tmp_path)]) as page:
        client = Client(page.wait(), verbose=False)
        with pytest.raises(AppError, match="no such collection"):
            client.predict("a", None, UNKNOWN, 5, None, api_name="/search")
        client.close()
    assert scripted.embedder.calls == []
