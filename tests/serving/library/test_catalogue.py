"""Collections by key and by name: made, renamed, emptied into one another."""

from __future__ import annotations

import pytest

from serving.errors import BadValueError, NotFoundError
from serving.library.catalogue import KEY, CollectionGoneError, FingerprintError
from serving.library.library import Library
from serving.library.records import ABSENT
from tests.support.libraries import UNKNOWN, add, at, new
from tests.support.scripted import unit
from tests.support.stores import list_pictures


def test_key_reaches_what_a_name_does_and_is_not_guessed(library: Library) -> None:
    page = add(library, new("a.png"), "house")
    found = library.catalogue.find_collection("house")
    assert KEY.fullmatch(found.key) and library.catalogue.read_collection(found.key) == found
    assert [hit.page.id for hit in library.ranking.search(found.key, unit("a.png 1", 64), 3, "f1")] == [page]
    assert (
        library.add_page(found.key, new("b.png"), fingerprint="f1", model="m")
        and library.catalogue.find_collection("house").pages == 2
    )
    assert library.catalogue.find_pages(found.key, "sha of a.png") == {1: "a.png"}
    assert len(library.catalogue.list_files(found.key)) == 2
    assert len({library.create_collection(f"n{number}").key for number in range(50)}) == 50


def test_unknown_key_is_not_found_and_makes_nothing(library: Library) -> None:
    house = library.create_collection("house").key
    library.add_page(house, new(), fingerprint="f1", model="m")
    vector = unit("q", 64)
    for call in (
        lambda: library.catalogue.read_collection(UNKNOWN),
        lambda: library.catalogue.list_files(UNKNOWN),
        lambda: library.catalogue.find_pages(UNKNOWN, "x"),
        lambda: library.ranking.search(UNKNOWN, vector, 3, "f1"),
        lambda: library.catalogue.read_vector(UNKNOWN, "x"),
        lambda: library.delete_pages(UNKNOWN, ["x"]),
        lambda: library.delete_file(UNKNOWN, "x"),
        lambda: library.delete_collection(UNKNOWN),
        lambda: library.rename_collection(UNKNOWN, "mine"),
        lambda: library.move_pages(house, [], UNKNOWN),
        lambda: library.move_pages(UNKNOWN, [], house),
        lambda: library.add_page(UNKNOWN, new("b.png"), fingerprint="f1", model="m"),
        lambda: library.add_page(ABSENT, new("b.png"), fingerprint="f1", model="m"),
        lambda: library.rename_collection(ABSENT, "mine"),
        lambda: library.move_pages(house, [], ABSENT),
    ):
        with pytest.raises(CollectionGoneError, match="no such collection"):
            call()
    assert [found.name for found in library.catalogue.list_collections()] == ["house"]
    assert len(list_pictures(library)) == 1


def test_names_belong_to_their_owner(library: Library) -> None:
    mine, yours = library.create_collection("house", "me"), library.create_collection("house", "you")
    library.add_page(mine.key, new(), fingerprint="f1", model="m")
    assert (
        library.catalogue.find_collection("house", "me").pages == 1
        and library.catalogue.find_collection("house", "you").pages == 0
    )
    assert library.catalogue.find_collection("house").key == "" and library.catalogue.list_collections() == []
    assert (
        library.catalogue.list_collections("you") == [yours]
        and library.catalogue.find_latest_name("me") == "house"
        and library.catalogue.find_latest_name() is None
    )


def test_create_and_rename(library: Library) -> None:
    library.create_collection("  a  b ")
    key = library.catalogue.find_collection("a b").key
    library.create_collection("c")
    for call in (lambda: library.create_collection("a b"), lambda: library.rename_collection(key, "c")):
        with pytest.raises(BadValueError, match="already"):
            call()
    for name in ("", "x" * 81, "a\u202eb", UNKNOWN, None):
        for call in (lambda: library.create_collection(name), lambda: library.rename_collection(key, name)):  # type: ignore[arg-type] # noqa: B023
            with pytest.raises(BadValueError, match="1 to 80 printable"):
                call()
    assert library.rename_collection(key, "d").name == "d" and library.catalogue.read_collection(key).name == "d"
    with pytest.raises(NotFoundError):
        library.rename_collection(at(library, "a b"), "e")


def test_moved_pages_are_found_where_they_are_now(library: Library) -> None:
    ids = [add(library, new("a.pdf", page), "from") for page in (1, 2, 3)]
    twin = add(library, new("a.pdf", 2), "to")
    (
        library.ranking.search(at(library, "from"), unit("q", 64), 3, "f1"),
        library.ranking.search(at(library, "to"), unit("q", 64), 3, "f1"),
    )
    assert library.move_pages(at(library, "from"), [*ids, "no such id", ids[0]], at(library, "to")) == [ids[0], ids[2]]
    assert [hit.page.id for hit in library.ranking.search(at(library, "from"), unit("q", 64), 9, "f1")] == [ids[1]]
    assert {hit.page.id for hit in library.ranking.search(at(library, "to"), unit("q", 64), 9, "f1")} == {
        ids[0],
        ids[2],
        twin,
    }
    assert library.pictures.has_picture(ids[0]) and library.catalogue.read_lines(ids[0])
    assert library.move_pages(at(library, "to"), [twin], at(library, "to")) == []
    library.create_collection("empty")
    assert (
        library.move_pages(at(library, "to"), [twin], at(library, "empty")) == [twin]
        and library.catalogue.find_collection("empty").fingerprint == "f1"
    )
    add(library, new("b.png"), "other", "f2")
    with pytest.raises(FingerprintError):
        library.move_pages(at(library, "to"), [ids[0]], at(library, "other"))
    assert library.move_pages(at(library, "from"), [twin], at(library, "to")) == []  # a page of a third collection


def test_the_pages_of_a_file_are_listed_in_order_and_only_to_its_collection(library: Library) -> None:
    for name, page in (("a.pdf", 12), ("a.pdf", 2), ("a.pdf", 7), ("b.pdf", 1)):
        add(library, new(name, page))
    twin = new("a.pdf", 2, sha256="another file of this name")
    other = add(library, twin)
    elsewhere = add(library, new("a.pdf", 3), "d")
    of_file = library.catalogue.list_pages_beside(at(library), next(iter(page_ids(library, "a.pdf", 7))))
    assert list(of_file) == [2, 7, 12] and other not in of_file.values()
    assert library.catalogue.list_pages_beside(at(library), other) == {2: other}
    for stranger in (elsewhere, "0" * 16, "' OR 1"):
        with pytest.raises(NotFoundError, match="not in the collection") as refused:
            library.catalogue.list_pages_beside(at(library), stranger)
        assert refused.value.param == "page"
    with pytest.raises(CollectionGoneError):
        library.catalogue.list_pages_beside(UNKNOWN, other)
    with pytest.raises(NotFoundError):
        library.catalogue.list_pages_beside(ABSENT, other)


def page_ids(library: Library, file: str, number: int) -> set[str]:
    pages = library.catalogue.read_pages(library.catalogue.list_page_ids(at(library)))
    return {page.id for page in pages.values() if (page.file, page.page) == (file, number)}
