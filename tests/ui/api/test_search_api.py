"""The page's API through the official gradio_client, against the real page and its real worker."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.support.files import encoded, huge_png, pdf, picture, rotated_jpeg
from tests.support.repository import SAMPLES
from tests.support.zips import zipped


@pytest.fixture(scope="module")
def client(page_url: str) -> Iterator[Client]:
    client = Client(page_url, verbose=False)
    yield client
    client.close()


def add(client: Client, collection: str, *paths: Path) -> dict[str, list[dict[str, object]]]:
    found = client.predict([handle_file(path) for path in paths], collection, api_name="/add_pages")
    assert set(found) == {"added", "skipped", "timings"} and found["timings"]["total"] >= 0
    return dict(found)


def search(client: Client, query: str, collection: str, top_k: object = 5, **more: object) -> list[dict[str, object]]:
    found = client.predict(query, more.get("image"), collection, top_k, more.get("dimension"), api_name="/search")
    assert set(found) == {"hits", "hidden", "ranked", "timings"} and set(found["timings"]) == {
        "embed",
        "search",
        "total",
    }
    return list(found["hits"])


def test_add_search_delete(client: Client, tmp_path: Path) -> None:
    manual = tmp_path / "manual (draft) #2 größer.pdf"
    manual.write_bytes(pdf([["How to descale the coffee machine"], ["Opening hours of the swimming pool"]]))
    receipt = SAMPLES / "receipt-corner-larder.jpg"
    added = add(client, "first", manual, receipt)
    assert added["skipped"] == []
    assert [(page["file"], page["page"]) for page in added["added"]] == [
        (manual.name, 1),
        (manual.name, 2),
        (receipt.name, 1),
    ]
    hits = search(client, "when can I go swimming?", "first", 2)
    assert [set(hit) for hit in hits] == [{"rank", "score", "id", "file", "page"}] * 2
    assert (hits[0]["rank"], hits[0]["file"], hits[0]["page"]) == (1, manual.name, 2)
    assert hits[0]["score"] > hits[1]["score"]  # type: ignore[operator]
    gone = client.predict("first", [hits[0]["id"], "nobody"], api_name="/delete_pages")
    assert gone == {"deleted": [hits[0]["id"]], "missing": ["nobody"]}
    assert len(search(client, "when can I go swimming?", "first")) == 2
    assert client.predict("other", [hits[1]["id"]], api_name="/delete_pages")["deleted"] == []


def test_image_as_query(client: Client) -> None:
    add(client, "images", SAMPLES / "receipt-corner-larder.jpg", SAMPLES / "slide-shelf-robots.webp")
    hits = search(client, "", "images", image=handle_file(SAMPLES / "slide-shelf-robots.webp"))
    assert hits[0]["file"] == "slide-shelf-robots.webp"
    words = "corner larder receipt, total paid"
    for weight, first in ((0, "receipt-corner-larder.jpg"), (1, "slide-shelf-robots.webp")):
        image = handle_file(SAMPLES / "slide-shelf-robots.webp")
        found = client.predict(words, image, "images", 5, None, None, weight, api_name="/search")
        assert found["hits"][0]["file"] == first
    (other,) = client.predict("", None, "images", 5, None, None, None, hits[0]["id"], api_name="/search")["hits"]
    assert other["file"] == "receipt-corner-larder.jpg"
    none = client.predict(words, None, "images", 5, None, None, None, None, 1.0, api_name="/search")
    assert (none["hits"], none["hidden"]) == ([], 2)


def test_filters_and_many_questions(client: Client, tmp_path: Path) -> None:
    manual = tmp_path / "manual.pdf"
    manual.write_bytes(pdf([["How to descale the coffee machine"], ["Opening hours of the swimming pool"]]))
    add(client, "many", manual, SAMPLES / "receipt-corner-larder.jpg")
    rest = [None] * 5
    for files, types, names in (
        (["receipt-corner-larder.jpg"], None, {"receipt-corner-larder.jpg"}),
        (None, ["pdf"], {"manual.pdf"}),
    ):
        found = client.predict("swimming", None, "many", 5, *rest, files, types, api_name="/search")
        assert {hit["file"] for hit in found["hits"]} == names and found["ranked"] == len(found["hits"])
    asked = ["when can I go swimming?", "corner larder receipt"]
    found = client.predict(asked, "many", *rest[:4], api_name="/score_pages")
    best = [max(zip(row, found["pages"], strict=True), key=lambda pair: pair[0])[1] for row in found["scores"]]
    assert [(page["file"], page["page"]) for page in best] == [("manual.pdf", 2), ("receipt-corner-larder.jpg", 1)]
    for queries, told in (([], "no question"), ("not a list", "queries is a list"), (["a"] * 2 + ["\0"], "empty")):
        with pytest.raises(AppError, match=told):
            client.predict(queries, "many", *rest[:4], api_name="/score_pages")
    with pytest.raises(AppError, match="no type"):
        client.predict("a", None, "many", 5, *rest, None, ["exe"], api_name="/search")


def test_where_is_told_only_of_pages_without_lines(client: Client) -> None:
    (page,) = add(client, "looked at", SAMPLES / "receipt-corner-larder.jpg")["added"]
    for page_id, collection, told in (
        (page["id"], "looked at", "a search marks the line"),
        (page["id"], "elsewhere", "not in the collection"),
        ("../library.db", "looked at", "not in the collection"),
        (page["id"], UNKNOWN, "no such collection"),
    ):
        with pytest.raises(AppError, match=told):
            client.predict("total", page_id, collection, api_name="/where")


@pytest.mark.parametrize(
    ("weight", "like", "minimum", "message"),
    [
        (2, None, None, "weight is 0 to 1"),
        ("much", None, None, "weight is a number"),
        (None, "x", None, "like stands alone"),
        (None, None, 7, "minimum is -1 to 1"),
    ],
)
def test_bad_refinements_are_told(client: Client, weight: object, like: object, minimum: object, message: str) -> None:
    with pytest.raises(AppError, match=message):
        client.predict("a", None, "first", 5, None, None, weight, like, minimum, api_name="/search")


def test_bad_files_are_skipped_with_their_reason(client: Client, tmp_path: Path) -> None:
    whole = encoded(picture((800, 600), "cut in the middle"), "JPEG")
    files = {
        "cut.jpg": whole[: len(whole) // 2],
        "text.png": b"only text",
        "bomb.png": huge_png(),
        "locked.pdf": pdf([["secret words here"]], password="pw"),
        "broken.pdf": b"%PDF-1.4 nothing",
    }
    good = {
        "rotated.jpg": rotated_jpeg(),
        "clear.png": encoded(picture(mode="RGBA")),
        "cmyk.jpg": encoded(picture((330, 200), mode="CMYK"), "JPEG"),
        "deep.png": encoded(picture((310, 210), mode="I;16")),
    }
    for name, data in {**files, **good}.items():
        (tmp_path / name).write_bytes(data)
    found = add(client, "bad", *(tmp_path / name for name in {**files, **good}))
    assert {item["file"] for item in found["skipped"]} == set(files)
    assert {item["file"] for item in found["added"]} == set(good)
    assert all(len(str(item["reason"])) > 10 for item in found["skipped"])


@pytest.mark.parametrize(
    ("query", "collection", "top_k", "dimension", "message"),
    [
        ("", "first", 5, None, "empty"),
        ("  \0 ", "first", 5, None, "empty"),
        ("x" * 100_000, "first", 5, None, "longer"),
        ("a", "", 5, None, "name"),
        ("a", "x" * 200, 5, None, "name"),
        ("a", "first", 0, None, "1 to 50"),
        ("a", "first", 1.5, None, "whole number"),
        ("a", "first", 5, 2561, "dimensions"),
        ("a", "first", 5, "x", "whole number"),
    ],
)
def test_bad_questions_are_told(
    client: Client, query: str, collection: str, top_k: object, dimension: object, message: str
) -> None:
    with pytest.raises(AppError, match=message):
        client.predict(query, None, collection, top_k, dimension, api_name="/search")


def test_unknown_collection_is_empty(client: Client) -> None:
    assert search(client, "anything", "never made") == []


@pytest.mark.parametrize("mark", [None, {"_type": "gradio.FileData"}])
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "../../etc/passwd", "", None])
def test_no_file_of_the_server_can_be_added(page_url: str, path: str | None, mark: object) -> None:
    entry = {"path": path, "orig_name": "a.png", **({"meta": mark} if mark else {})}
    session = {"session_hash": "s", "fn_index": 0}
    for route, body in (
        ("call/add_pages", {"data": [[entry], "stolen"]}),
        ("call/search", {"data": ["a", entry, "first", 3, None]}),
        ("queue/join", {**session, "data": [[entry], "stolen"]}),
        ("run/add_pages", {**session, "data": [[entry], "stolen"]}),
    ):
        begun = requests.post(f"{page_url}/gradio_api/{route}", json=body, timeout=30)
        if begun.ok and route.startswith("call"):  # an unmarked entry without a path comes as far as our own check
            answer = requests.get(f"{page_url}/gradio_api/{route}/{begun.json()['event_id']}", timeout=30)
            assert "event: error" in answer.text
        elif path is not None:
            assert begun.status_code == 400 and begun.json()["error"] == "this file was not uploaded"


def test_no_address_is_fetched(page_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/x.png"
        for entry in (
            {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}},
            {"path": address},
            {"url": address, "meta": {"_type": "gradio.FileData"}},
        ):
            begun = requests.post(f"{page_url}/gradio_api/call/add_pages", json={"data": [[entry], "x"]}, timeout=30)
            assert begun.status_code == 400
        with pytest.raises(TimeoutError):
            trap.accept()


def test_a_call_is_bounded(page_url: str) -> None:
    body = {"data": ["x" * 5_000_000, None, "first", 3, None]}
    assert requests.post(f"{page_url}/gradio_api/call/search", json=body, timeout=30).status_code == 413


@pytest.mark.parametrize("path", ["/etc/passwd", "library.db", "data/library.db", "../library.db", "admin.key"])
def test_no_file_of_the_server_can_be_read(page_url: str, path: str) -> None:
    assert requests.get(f"{page_url}/gradio_api/file={path}", timeout=10).status_code in (403, 404)


def test_pictures_are_served_by_id_only(page_url: str, client: Client) -> None:
    hits = search(client, "lamp", "first")
    answer = requests.get(f"{page_url}/pages/{hits[0]['id']}.jpg", timeout=10)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("0123456789abcdef.jpg", "..%2flibrary.db", "x.jpg", f"{hits[0]['id']}.png", "%2e%2e/library.db"):
        assert requests.get(f"{page_url}/pages/{name}", timeout=10).status_code == 404


def test_uploaded_name_is_never_a_path(page_url: str, tmp_path: Path) -> None:
    files = {"files": ("../../../../tmp/evil.png", encoded(picture((77, 55))), "image/png")}
    path = requests.post(f"{page_url}/gradio_api/upload", files=files, timeout=10).json()[0]
    assert "/uploads/" in path and ".." not in path
    entry = {"path": path, "orig_name": "../../etc/passwd", "meta": {"_type": "gradio.FileData"}}
    begun = requests.post(f"{page_url}/gradio_api/call/add_pages", json={"data": [[entry], "names"]}, timeout=30).json()
    answer = requests.get(f"{page_url}/gradio_api/call/add_pages/{begun['event_id']}", timeout=60).text
    found = json.loads(answer.partition("data: ")[2].splitlines()[0])[0]
    assert [page["file"] for page in found["added"]] == ["passwd"]


def test_other_names_of_this_host_are_refused(page_url: str) -> None:
    assert requests.get(page_url, headers={"Host": "evil.example"}, timeout=10).status_code == 400
    assert requests.get(f"{page_url}/healthz", timeout=10).json() == {"status": "ok"}


def test_only_these_endpoints_are_public(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert isinstance(endpoints, dict)
    of_pages = {"/add_pages", "/search", "/score_pages", "/where", "/delete_pages"}
    of_runs = {"/scaledown", "/start_bench", "/bench_run"}
    of_collections = {
        "/collections", "/new_collection", "/rename_collection", "/delete_collection", "/move_pages",
        "/export_collection", "/import_collection",
    }  # fmt: skip
    assert set(endpoints["named_endpoints"]) == of_pages | of_runs | of_collections
    parameters = [item["parameter_name"] for item in endpoints["named_endpoints"]["/search"]["parameters"]]
    assert parameters == [
        "query", "image", "collection", "top_k", "dimension", "target", "weight", "like", "minimum", "files",
        "types",
    ]  # fmt: skip


UNKNOWN = "c-" + 32 * "0"


def test_collection_is_made_renamed_moved_exported_imported_deleted(
    client: Client, page_url: str, tmp_path: Path
) -> None:
    made = client.predict("keep", api_name="/new_collection")
    key = made["collection"]
    assert re.fullmatch(r"c-[0-9a-f]{32}", key) and (made["name"], made["pages"]) == ("keep", 0)
    manual = tmp_path / "manual.pdf"
    manual.write_bytes(pdf([["How to descale the coffee machine"], ["Opening hours of the swimming pool"]]))
    ids = [page["id"] for page in add(client, key, manual)["added"]]
    assert client.predict(key, "kept", api_name="/rename_collection")["collection"] == key
    hits = search(client, "when can I go swimming?", "kept")
    assert [hit["id"] for hit in hits] == ids[::-1]
    assert {"collection": key, "name": "kept", "pages": 2}.items() <= next(
        found for found in client.predict(api_name="/collections")["collections"] if found["name"] == "kept"
    ).items()

    exported = client.predict("kept", api_name="/export_collection")
    assert exported["pages"] == 2
    answer = requests.get(page_url + exported["url"], timeout=30)
    assert len(answer.content) == exported["bytes"] and answer.headers["content-disposition"] == "attachment"
    (tmp_path / "kept.zip").write_bytes(answer.content)
    back = client.predict(handle_file(tmp_path / "kept.zip"), "back", None, api_name="/import_collection")
    assert (back["name"], back["pages"]) == ("back", 2) and back["collection"] != key
    again = search(client, "when can I go swimming?", back["collection"])
    assert [(hit["page"], hit["score"]) for hit in again] == [(hit["page"], hit["score"]) for hit in hits]
    dropped = add(client, "elsewhere", tmp_path / "kept.zip")
    assert "add it with Import" in str(dropped["skipped"][0]["reason"])

    other = client.predict("other shelf", api_name="/new_collection")["collection"]
    moved = client.predict(key, [ids[0], "nobody"], other, api_name="/move_pages")
    assert moved == {"moved": [ids[0]], "stayed": ["nobody"]}
    assert [hit["id"] for hit in search(client, "coffee", "other shelf")] == [ids[0]]
    assert client.predict(key, api_name="/delete_collection") == {"deleted": 1}
    with pytest.raises(AppError, match="no such collection"):
        search(client, "coffee", key)


def test_unknown_key_is_told_and_nothing_else(client: Client, tmp_path: Path) -> None:
    picture_file = tmp_path / "a.png"
    picture_file.write_bytes(encoded(picture()))
    before = client.predict(api_name="/collections")
    for call in (
        lambda: add(client, UNKNOWN, picture_file),
        lambda: search(client, "a", UNKNOWN),
        lambda: client.predict(UNKNOWN, ["x"], api_name="/delete_pages"),
        lambda: client.predict(UNKNOWN, "mine", api_name="/rename_collection"),
        lambda: client.predict(UNKNOWN, api_name="/delete_collection"),
        lambda: client.predict(UNKNOWN, [], "first", api_name="/move_pages"),
        lambda: client.predict("first", [], UNKNOWN, api_name="/move_pages"),
        lambda: client.predict(UNKNOWN, api_name="/export_collection"),
    ):
        with pytest.raises(AppError, match=r"there is no such collection \(any more\)"):
            call()
    assert client.predict(api_name="/collections") == before


@pytest.mark.parametrize("name", ["0" * 32 + ".zip", "..%2Flibrary.db", "library.db", "x.zip"])
def test_only_exports_are_served(page_url: str, name: str) -> None:
    answer = requests.get(f"{page_url}/exports/{name}", timeout=30)
    assert answer.status_code == 404 and b"SQLite" not in answer.content


def test_what_is_no_export_is_told(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "not.zip"
    for data, words in ((b"PK\x03\x04 no", "damaged"), (zipped({"a.png": b"x"}), "no exported collection")):
        path.write_bytes(data)
        with pytest.raises(AppError, match=words):
            client.predict(handle_file(path), "", None, api_name="/import_collection")
