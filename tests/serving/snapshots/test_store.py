"""Snapshot files by themselves; what a running engine does with damaged ones is in test_main.py."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from serving.snapshots.base import Snapshot, SnapshotFailed
from serving.snapshots.identity import describe_mismatch, digest_identity
from serving.snapshots.store import FILES, SnapshotStore

MINE = {"kernel": "6.18", "criu": "4.1", "package numpy": "2.4"}


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    store = SnapshotStore(tmp_path / "snapshots", keep=2)
    store.open()
    return store


def saved(store: SnapshotStore, mine: dict[str, str], content: bytes = b"memory") -> Snapshot:
    part = store.make_part()
    (part / FILES / "pages-1.img").write_bytes(content)
    return store.keep_part(part, mine, [[1.0]], {"pipes": ["pipe:[1]"]})


def test_kept_and_found_again_also_by_another_engine(store: SnapshotStore) -> None:
    kept = saved(store, MINE)
    assert kept.bytes == 6 and kept.probe == [[1.0]] and kept.key == digest_identity(MINE)
    again = SnapshotStore(store.folder, keep=2)
    again.open()
    assert again.find(MINE) == kept
    assert again.find({**MINE, "kernel": "6.19"}) is None
    again.discard(kept)
    assert again.find(MINE) is None and list(store.folder.iterdir()) == []


def test_a_new_one_takes_the_place_of_its_own_kind_and_the_oldest_others_go(store: SnapshotStore) -> None:
    for number in range(4):
        kept = saved(store, {**MINE, "kernel": str(number)})
        os.utime(store.folder / kept.key, (number, number))
    assert saved(store, MINE, b"first").bytes == 5
    assert saved(store, MINE, b"second one").bytes == 10
    left = {path.name for path in store.folder.iterdir()}
    assert left == {digest_identity(MINE), digest_identity({**MINE, "kernel": "3"})}


def test_what_cannot_be_kept_leaves_the_old_one(store: SnapshotStore) -> None:
    kept = saved(store, MINE)
    part = store.make_part()
    (part / FILES / "pages-1.img").symlink_to("/nowhere")
    with pytest.raises(SnapshotFailed):
        store.keep_part(part, MINE, [[1.0]], {})
    shutil.rmtree(part)
    assert store.find(MINE) == kept and len(list(store.folder.iterdir())) == 1


def test_leftovers_of_a_killed_engine_are_swept(store: SnapshotStore) -> None:
    kept = saved(store, MINE)
    store.make_part()
    (store.folder / kept.key).rename(store.folder / "abc.gone")
    store.open()
    assert list(store.folder.iterdir()) == []


def test_mismatch_names_what_differs() -> None:
    assert describe_mismatch(MINE, dict(MINE)) is None
    assert describe_mismatch(MINE, {**MINE, "criu": "4.2"}) == "criu '4.2' there, '4.1' here"
    assert "package extra 'absent' there, '1' here" in (describe_mismatch({**MINE, "package extra": "1"}, MINE) or "")
    many = describe_mismatch(MINE, {})
    assert many is not None and many.count("absent") == 3
