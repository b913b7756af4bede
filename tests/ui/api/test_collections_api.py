"""The API of collections through the official gradio_client, against the real page and its real worker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.support.files import encoded, pdf, picture
from tests.support.libraries import UNKNOWN
from tests.support.page_calls import add_pages, search_pages
from tests.support.zips import zipped


def test_collection_is_made_renamed_moved_exported_imported_deleted(
    client: Client, page_url: str, tmp_path: Path
) -> None:
    made = client.predict("keep", api_name="/new_collection")
    key = made["collection"]
    assert re.fullmatch(r"c-[0-9a-f]{32}", key) and (made["name"], made["pages"]) == ("keep", 0)
    manual = tmp_path / "manual.pdf"
    manual.write_bytes(pdf([["How to descale the coffee machine"], ["Opening hours of the swimming pool"]]))
    ids = [page["id"] for page in add_pages(client, key, manual)["added"]]
    assert client.predict(key, "kept", api_name="/rename_collection")["collection"] == key
    hits = search_pages(client, "when can I go swimming?", "kept")
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
    again = search_pages(client, "when can I go swimming?", back["collection"])
    assert [(hit["page"], hit["score"]) for hit in again] == [(hit["page"], hit["score"]) for hit in hits]
    dropped = add_pages(client, "elsewhere", tmp_path / "kept.zip")
    assert "add it with Import" in str(dropped["skipped"][0]["reason"])

    other = client.predict("other shelf", api_name="/new_collection")["collection"]
    moved = client.predict(key, [ids[0], "nobody"], other, api_name="/move_pages")
    assert moved == {"moved": [ids[0]], "stayed": ["nobody"]}
    assert [hit["id"] for hit in search_pages(client, "coffee", "other shelf")] == [ids[0]]
    assert client.predict(key, api_name="/delete_collection") == {"deleted": 1}
    with pytest.raises(AppError, match="no such collection"):
        search_pages(client, "coffee", key)


def test_files_are_named_listed_and_deleted(client: Client, tmp_path: Path) -> None:
    names = {"a.pdf": pdf([["one"], ["two"]]), "b.pdf": pdf([["three"]])}
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    files = [handle_file(tmp_path / name) for name in names]
    wanted = ["in a/folder.pdf", "../../b.pdf"]
    added = client.predict(files, "named", None, wanted, api_name="/add_pages")
    assert {page["file"] for page in added["added"]} == {"in a/folder.pdf", "b.pdf"}
    again = client.predict(files[:1], "named", api_name="/add_pages")
    assert [(item["file"], item["known"]) for item in again["skipped"]] == [("a.pdf", True)]
    for bad in (["one"], "ab"):
        with pytest.raises(AppError, match="one name for each file"):
            client.predict(files, "named", None, bad, api_name="/add_pages")

    def list_files() -> list[Any]:
        """Those with more pages first: they are listed as their pages came, which are embedded side by side."""
        found: list[Any] = client.predict("named", api_name="/collection_files")["files"]
        return sorted(found, key=lambda file: -int(file["pages"]))

    listed = list_files()
    counts = [(file["file"], file["pages"], file["pages_of_file"]) for file in listed]
    assert counts == [("in a/folder.pdf", 2, 2), ("b.pdf", 1, 1)]
    digests = [file["sha256"] for file in listed]
    for names_given in (["one"], "ab"):
        with pytest.raises(AppError, match="a name for each"):
            client.predict("named", digests, names_given, api_name="/rename_files")
    renamed = client.predict("named", [digests[0], "nobody's"], ["to/../other.pdf", "x"], api_name="/rename_files")
    assert renamed == {"renamed": 2}
    assert list_files()[0]["file"] == "to/other.pdf"
    gone = client.predict("named", [listed[0]["sha256"], "nobody's"], api_name="/delete_files")
    assert gone == {"deleted": 2}
    assert list_files() == listed[1:]
    with pytest.raises(AppError, match="list of sha256"):
        client.predict("named", "all", api_name="/delete_files")


def test_unknown_key_is_told_and_nothing_else(client: Client, tmp_path: Path) -> None:
    picture_file = tmp_path / "a.png"
    picture_file.write_bytes(encoded(picture()))
    before = client.predict(api_name="/collections")
    for call in (
        lambda: add_pages(client, UNKNOWN, picture_file),
        lambda: search_pages(client, "a", UNKNOWN),
        lambda: client.predict(UNKNOWN, ["x"], api_name="/delete_pages"),
        lambda: client.predict(UNKNOWN, "mine", api_name="/rename_collection"),
        lambda: client.predict(UNKNOWN, api_name="/delete_collection"),
        lambda: client.predict(UNKNOWN, [], "first", api_name="/move_pages"),
        lambda: client.predict("first", [], UNKNOWN, api_name="/move_pages"),
        lambda: client.predict(UNKNOWN, api_name="/export_collection"),
        lambda: client.predict(UNKNOWN, api_name="/collection_files"),
        lambda: client.predict(UNKNOWN, [], api_name="/delete_files"),
        lambda: client.predict(UNKNOWN, [], [], api_name="/rename_files"),
    ):
        with pytest.raises(AppError, match=r"there is no such collection \(any more\)"):
            call()
    assert client.predict(api_name="/collections") == before


def test_what_is_no_export_is_told(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "not.zip"
    for data, words in ((b"PK\x03\x04 no", "damaged"), (zipped({"a.png": b"x"}), "no exported collection")):
        path.write_bytes(data)
        with pytest.raises(AppError, match=words):
            client.predict(handle_file(path), "", None, api_name="/import_collection")
