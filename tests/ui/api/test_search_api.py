"""The page's API through the official gradio_client, against the real page and its real worker."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.support.files import encoded, huge_png, pdf, picture, rotated_jpeg
from tests.support.libraries import UNKNOWN
from tests.support.page_calls import add_pages, search_pages
from tests.support.repository import SAMPLES
from tests.support.zips import zipped


def test_add_search_delete(client: Client, tmp_path: Path) -> None:
    manual = tmp_path / "manual (draft) #2 größer.pdf"
    manual.write_bytes(pdf([["How to descale the coffee machine"], ["Opening hours of the swimming pool"]]))
    receipt = SAMPLES / "receipt-corner-larder.jpg"
    added = add_pages(client, "first", manual, receipt)
    assert added["skipped"] == []
    assert [(page["file"], page["page"]) for page in added["added"]] == [
        (manual.name, 1),
        (manual.name, 2),
        (receipt.name, 1),
    ]
    hits = search_pages(client, "when can I go swimming?", "first", 2)
    assert [set(hit) for hit in hits] == [{"rank", "score", "id", "file", "page", "line"}] * 2
    assert (hits[0]["rank"], hits[0]["file"], hits[0]["page"]) == (1, manual.name, 2)
    assert hits[0]["score"] > hits[1]["score"]  # type: ignore[operator]
    gone = client.predict("first", [hits[0]["id"], "nobody"], api_name="/delete_pages")
    assert gone == {"deleted": [hits[0]["id"]], "missing": ["nobody"]}
    assert len(search_pages(client, "when can I go swimming?", "first")) == 2
    assert client.predict("other", [hits[1]["id"]], api_name="/delete_pages")["deleted"] == []


def test_image_as_query(client: Client) -> None:
    add_pages(client, "images", SAMPLES / "receipt-corner-larder.jpg", SAMPLES / "slide-shelf-robots.webp")
    hits = search_pages(client, "", "images", image=handle_file(SAMPLES / "slide-shelf-robots.webp"))
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


def test_only_a_folder_or_what_was_added_lately(client: Client, tmp_path: Path) -> None:
    archive = tmp_path / "papers.zip"
    archive.write_bytes(zipped({"manuals/pump/a.pdf": pdf([["How to prime the pump"]]), "b.pdf": pdf([["A bill"]])}))
    add_pages(client, "folders", archive)
    rest = [None] * 7
    for folder, after, names in (
        ("papers.zip/manuals", None, ["papers.zip/manuals/pump/a.pdf"]),
        ("papers.zip/manuals/pump/", "2020-01-01", ["papers.zip/manuals/pump/a.pdf"]),
        (None, "2999-01-01T00:00Z", []),
    ):
        found = client.predict("pump", None, "folders", 5, *rest, folder, after, api_name="/search")
        assert [hit["file"] for hit in found["hits"]] == names
        scored = client.predict(["pump"], "folders", *rest[:4], folder, after, api_name="/score_pages")
        assert [page["file"] for page in scored["pages"]] == names
    for folder, after, told in (("attic", None, "no folder 'attic'"), (None, "soon", "added_after is a date")):
        with pytest.raises(AppError, match=told):
            client.predict("pump", None, "folders", 5, *rest, folder, after, api_name="/search")


def test_filters_and_many_questions(client: Client, tmp_path: Path) -> None:
    manual = tmp_path / "manual.pdf"
    manual.write_bytes(pdf([["How to descale the coffee machine"], ["Opening hours of the swimming pool"]]))
    add_pages(client, "many", manual, SAMPLES / "receipt-corner-larder.jpg")
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
    (page,) = add_pages(client, "looked at", SAMPLES / "receipt-corner-larder.jpg")["added"]
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
        "bomb.png": huge_png(15_000),
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
    found = add_pages(client, "bad", *(tmp_path / name for name in {**files, **good}))
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
    assert search_pages(client, "anything", "never made") == []


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


def test_uploaded_name_is_never_a_path(page_url: str, tmp_path: Path) -> None:
    files = {"files": ("../../../../tmp/evil.png", encoded(picture((77, 55))), "image/png")}
    path = requests.post(f"{page_url}/gradio_api/upload", files=files, timeout=10).json()[0]
    assert "/uploads/" in path and ".." not in path
    entry = {"path": path, "orig_name": "../../etc/passwd", "meta": {"_type": "gradio.FileData"}}
    begun = requests.post(f"{page_url}/gradio_api/call/add_pages", json={"data": [[entry], "names"]}, timeout=30).json()
    answer = requests.get(f"{page_url}/gradio_api/call/add_pages/{begun['event_id']}", timeout=60).text
    found = json.loads(answer.partition("data: ")[2].splitlines()[0])[0]
    assert [page["file"] for page in found["added"]] == ["passwd"]


def test_a_call_may_leave_out_what_has_a_default(client: Client, page_url: str) -> None:
    add_pages(client, "my-pages", SAMPLES / "receipt-corner-larder.jpg")
    for name, data, told in (
        ("search", ["corner larder"], "event: complete"),
        ("search", ["corner larder", None, "my-pages"], "event: complete"),
        ("first_results", ["corner larder"], "event: complete"),
        ("score_pages", [["corner larder"]], "event: complete"),
        ("search", [], "event: error"),
        ("collections", [], "event: complete"),
        ("add_pages", [], "event: error"),
    ):
        begun = requests.post(f"{page_url}/gradio_api/call/{name}", json={"data": data}, timeout=30).json()
        answer = requests.get(f"{page_url}/gradio_api/call/{name}/{begun['event_id']}", timeout=30).text
        assert told in answer, (name, data, answer)


def test_only_these_endpoints_are_public(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert isinstance(endpoints, dict)
    of_pages = {"/add_pages", "/search", "/first_results", "/score_pages", "/where", "/delete_pages"}
    of_runs = {"/scaledown", "/start_bench", "/bench_run"}
    of_collections = {
        "/collections", "/new_collection", "/rename_collection", "/delete_collection", "/collection_files",
        "/delete_files", "/rename_files", "/move_pages", "/export_collection", "/import_collection",
    }  # fmt: skip
    of_jobs = {"/jobs", "/pause_job", "/resume_job", "/cancel_job", "/retry_job"}
    assert set(endpoints["named_endpoints"]) == of_pages | of_runs | of_collections | of_jobs
    parameters = [item["parameter_name"] for item in endpoints["named_endpoints"]["/search"]["parameters"]]
    assert parameters == [
        "query", "image", "collection", "top_k", "dimension", "target", "weight", "like", "minimum", "files",
        "types", "folder", "added_after",
    ]  # fmt: skip
