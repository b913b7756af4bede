from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from serving.library import fingerprints
from serving.library.catalogue import FingerprintError
from serving.library.fingerprints import Equivalence, EquivalenceError, FolderProofs
from serving.library.library import Library
from serving.library.shared_proofs import SharedProofs
from tests.support.equivalence_proofs import proof
from tests.support.libraries import add, at, new
from tests.support.scripted import unit


def test_only_what_was_shown_is_equal_and_proofs_connect(tmp_path: Path) -> None:
    known = Equivalence(tmp_path)
    assert known.are_equal("a", "a") and not known.are_equal("a", "b")
    fingerprints.add_proof(tmp_path, proof("a", "b"))
    assert known.are_equal("a", "b") and known.are_equal("b", "a") and not known.are_equal("a", "c")
    fingerprints.add_proof(tmp_path, proof("c", "b"))
    assert known.are_equal("a", "c") and not known.are_equal("a", "d")
    fingerprints.add_proof(tmp_path, proof("b", "a"))
    assert len(fingerprints.read_proofs(tmp_path / "parity.json")) == 2, "measured again, a pair is not listed twice"
    (tmp_path / "parity.json").unlink()
    assert not known.are_equal("a", "b")


def test_file_is_what_it_promises(tmp_path: Path) -> None:
    fingerprints.add_proof(tmp_path / "data", proof("a", "b"))
    figures = {"n": 32, "min": 0.9995, "median": 0.9999}
    assert json.loads((tmp_path / "data" / "parity.json").read_text()) == {
        "schema_version": 1,
        "pairs": [
            {
                "fingerprints": ["a", "b"],
                "pages": figures,
                "queries": figures,
                "threshold": {"pages": 0.999, "queries": 0.9999},
                "measured": "2026-01-02T03:04:05+00:00",
            }
        ],
    }
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["parity.json"]


def test_withdrawing_leaves_no_way_round(tmp_path: Path) -> None:
    for one, other in ("ab", "bc", "ca", "xy"):
        fingerprints.add_proof(tmp_path, proof(one, other))
    assert len(fingerprints.remove_proofs(tmp_path, "b", "a")) == 3
    known = Equivalence(tmp_path)
    assert not known.are_equal("a", "b") and known.are_equal("x", "y")
    assert (
        fingerprints.remove_proofs(tmp_path, "a", "b") == []
        and fingerprints.remove_proofs(tmp_path / "none", "a", "b") == []
    )
    fingerprints.add_proof(tmp_path, proof("y", "z"))
    assert len(fingerprints.remove_proofs(tmp_path, "x", "y")) == 1 and known.are_equal("y", "z"), (
        "others keep their proof"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"pairs": [{"fingerprints": ["a", "b"]}]}',
        json.dumps({"schema_version": 2, "pairs": [proof("a", "b").model_dump()]}).encode(),
        json.dumps({"schema_version": 1, "pairs": [{**proof("a", "b").model_dump(), "measured": None}]}).encode(),
        b'{"schema_version": 1, "pairs": [' + b"\xff" * 9 + b"]}",
    ],
)
def test_damaged_file_proves_nothing_and_is_told_once(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "parity.json"
    path.write_bytes(content)
    known = Equivalence(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert not known.are_equal("a", "b") and not known.are_equal("a", "b") and known.are_equal("a", "a")
    assert len(caplog.records) == 1 and "parity.json cannot be used" in caplog.text
    for change in (
        lambda: fingerprints.add_proof(tmp_path, proof("a", "b")),
        lambda: fingerprints.remove_proofs(tmp_path, "a", "b"),
    ):
        with pytest.raises(EquivalenceError, match="measure again"):
            change()
    assert path.read_bytes() == content, "what is not understood is not overwritten"
    path.unlink()
    fingerprints.add_proof(tmp_path, proof("a", "b"))
    assert known.are_equal("a", "b")


def test_library_lets_shown_fingerprints_share_a_collection(library: Library, tmp_path: Path) -> None:
    first = add(library, new("a.png"), fingerprint="f1")
    with pytest.raises(FingerprintError, match="python -m bench parity --a URL --b URL"):
        add(library, new("b.png"), fingerprint="f2")
    with pytest.raises(FingerprintError, match="new collection"):
        library.catalogue.check_fingerprint(at(library), "f2")
    proofs = SharedProofs(library.database) if library.database.is_shared else FolderProofs(tmp_path)
    proofs.add(proof("f1", "f2"))
    library.catalogue.check_fingerprint(at(library), "f2")
    second = add(library, new("b.png"), fingerprint="f2")
    for fingerprint in ("f1", "f2"):
        hits = library.ranking.search(at(library), unit("b.png 1", 64), 2, fingerprint)
        assert [hit.page.id for hit in hits] == [second, first]
    assert library.catalogue.find_collection("c").fingerprint == "f1"
    with pytest.raises(FingerprintError):
        library.ranking.search(at(library), unit("q", 64), 2, "f3")
    assert [found.fingerprints for found in proofs.remove("f2", "f1")] == [("f1", "f2")]
    with pytest.raises(FingerprintError):
        library.ranking.search(at(library), unit("q", 64), 2, "f2")
    library.catalogue.check_fingerprint(at(library, "nobody"), "f2")
