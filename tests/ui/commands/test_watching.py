"""`dormouse watch`: a collection that follows a folder, look by look and as a process."""

from __future__ import annotations

import json
import signal
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.errors import BadValueError
from serving.settings import Settings
from tests.support.commands import Dormouse, end, start, write_files
from tests.support.files import encoded, pdf, picture
from tests.support.servers import ScriptedWorker
from tests.support.waiting import until
from tests.support.zips import zipped
from ui.commands import watched_folder
from ui.commands.folder_files import Skip
from ui.commands.output import Output
from ui.commands.watched_folder import WatchedFolder
from ui.commands.watching import Mirror


class Watch:
    """A watched folder `in`, which is looked at when the test says so."""

    def __init__(self, folder: Path, options: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._options = options
        self._capsys = capsys
        folder.mkdir(exist_ok=True)
        self.begin()

    def begin(self) -> None:
        self._mirror = Mirror(WatchedFolder(self.folder, Settings()), self._options, Output(as_json=True))
        self._mirror.look()
        self._first = True

    def write(self, name: str, data: bytes) -> None:
        write_files(self.folder, {name: data})

    def follow(self, looks: int = 2) -> list[tuple[Any, ...]]:
        """Look some times, and return what was reported."""
        self._capsys.readouterr()
        for _ in range(looks):
            self._mirror.follow(first=self._first)
            self._first = False
        told = [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]
        fields = {"page": ("file", "page"), "renamed": ("old", "file"), "deleted": ("file", "pages")}
        return [(one["type"], *(one[field] for field in fields.get(one["type"], ("file",)))) for one in told]


@pytest.fixture(params=["folder", "page"])
def watch(
    request: pytest.FixtureRequest, tmp_path: Path, data: Path, name: str, embedder_url: str,
    capsys: pytest.CaptureFixture[str],
) -> Watch:  # fmt: skip
    page = request.getfixturevalue("running_page") if request.param == "page" else None
    where = {"page": page, "data": None if page else data, "worker": None if page else ("", embedder_url)}
    return Watch(tmp_path / "in", Namespace(collection=name, verbose=False, store=None, **where), capsys)


def test_new_changed_moved_and_deleted_files(watch: Watch) -> None:
    watch.write("a.pdf", pdf([["one"], ["two"]]))
    assert sorted(watch.follow()) == [("page", "in/a.pdf", 1), ("page", "in/a.pdf", 2)]
    assert watch.follow() == []
    watch.write("b.png", encoded(picture(text="b")))
    assert watch.follow(1) == [] and watch.follow() == [("page", "in/b.png", 1)], "not before it has settled"
    (watch.folder / "sub").mkdir()
    (watch.folder / "a.pdf").rename(watch.folder / "sub" / "c.pdf")
    assert watch.follow() == [("renamed", "in/a.pdf", "in/sub/c.pdf")], "nothing is embedded again"
    watch.write("sub/c.pdf", pdf([["changed"]]))
    assert watch.follow() == [("page", "in/sub/c.pdf", 1), ("deleted", "in/sub/c.pdf", 2)]
    (watch.folder / "b.png").unlink()
    assert watch.follow(1) == [] and watch.follow(1) == [("deleted", "in/b.png", 1)]
    watch.begin()
    assert watch.follow() == [], "a new watch begins where the last one has ended"


def test_it_goes_on_with_what_changed_while_nobody_watched(watch: Watch) -> None:
    one, two, three = (pdf([[word]]) for word in ("one", "two", "three"))
    for name, content in (("1.pdf", one), ("2.pdf", two), ("3.pdf", three)):
        watch.write(name, content)
    assert len(watch.follow()) == 3
    (watch.folder / "1.pdf").rename(watch.folder / "moved.pdf")
    (watch.folder / "2.pdf").unlink()
    watch.write("3.pdf", pdf([["three, changed"]]))
    watch.begin()
    assert sorted(watch.follow()) == [
        ("deleted", "in/2.pdf", 1),
        ("deleted", "in/3.pdf", 1),
        ("page", "in/3.pdf", 1),
        ("renamed", "in/1.pdf", "in/moved.pdf"),
    ]


def test_copies_and_swapped_names_lose_nothing(watch: Watch) -> None:
    one, two = pdf([["one"]]), pdf([["two"]])
    watch.write("a.pdf", one)
    watch.write("b.pdf", two)
    assert len(watch.follow()) == 2
    watch.write("a.pdf", two)
    watch.write("b.pdf", one)
    assert sorted(watch.follow()) == [("renamed", "in/a.pdf", "in/b.pdf"), ("renamed", "in/b.pdf", "in/a.pdf")]
    watch.write("copy.pdf", one)
    assert watch.follow() == []
    (watch.folder / "b.pdf").unlink()
    assert watch.follow(3) == [("renamed", "in/b.pdf", "in/copy.pdf")]


def test_zips_are_followed(watch: Watch) -> None:
    files = {"x/1.pdf": pdf([["one"]]), "2.pdf": pdf([["two"]])}
    watch.write("a.zip", zipped(files))
    assert len(watch.follow()) == 2
    (watch.folder / "a.zip").rename(watch.folder / "b.zip")
    assert [what for what, *_ in watch.follow(3)] == ["renamed"] * 2
    del files["2.pdf"]
    watch.write("b.zip", zipped(files))
    assert watch.follow() == [("deleted", "in/b.zip/2.pdf", 1)]
    (watch.folder / "b.zip").unlink()
    assert watch.follow(3) == [("deleted", "in/b.zip/x/1.pdf", 1)]


def test_rubbish_is_told_once_and_replaces_nothing(watch: Watch) -> None:
    watch.write("a.pdf", pdf([["one"]]))
    watch.follow()
    watch.write("a.pdf", b"%PDF-1.4 damaged")
    assert watch.follow(4) == [("skipped", "in/a.pdf")]
    watch.write("a.pdf", pdf([["whole again"]]))
    assert watch.follow() == [("page", "in/a.pdf", 1), ("deleted", "in/a.pdf", 1)]


def test_files_from_elsewhere_are_left_alone(
    watch: Watch, dormouse: Dormouse, name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if "page" in request.node.name:
        dormouse.options = ("--page", request.getfixturevalue("running_page"))
    other = write_files(tmp_path, {"other.pdf": pdf([["other"]])}) / "other.pdf"
    assert dormouse("add", other, "--collection", name).code == 0
    watch.write("a.pdf", pdf([["one"]]))
    watch.follow()
    (watch.folder / "a.pdf").unlink()
    watch.follow(3)
    assert dormouse("list", "--files", "--collection", name).out == "     1  other.pdf\n"


@pytest.mark.parametrize("there", [{}, {"new.pdf": pdf([["of another folder"]])}])
def test_an_emptied_or_another_folder_deletes_nothing(watch: Watch, there: dict[str, bytes]) -> None:
    watch.write("a.pdf", pdf([["one"]]))
    watch.follow()
    (watch.folder / "a.pdf").unlink()
    write_files(watch.folder, there)
    watch.begin()
    with pytest.raises(BadValueError, match="has none of them"):
        watch.follow()


def test_a_folder_that_cannot_be_read_deletes_nothing(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.write("sub/a.pdf", pdf([["one"]]))
    watch.write("b.pdf", pdf([["two"]]))
    watch.follow()

    def walk_rest(path: Path, skip: Skip) -> Iterator[tuple[Path, str]]:
        skip("in/sub", "the folder could not be read: Permission denied")
        yield path / "b.pdf", "in/b.pdf"

    with monkeypatch.context() as patch:  # not by the folder's mode: root reads every folder
        patch.setattr(watched_folder, "walk_path", walk_rest)
        assert watch.follow(4) == []
    assert watch.follow(3) == []


# As a process


class Running:
    """`dormouse watch` as a process, whose JSON lines are read as they come."""

    def __init__(self, folder: Path, *options: object) -> None:
        self.process = start("watch", folder, "--collection", "c", "--json", *options)
        self.told: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.told.append(json.loads(line))

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        until(lambda: any(map(condition, list(self.told))) or self.process.poll() is not None, 90)
        assert any(map(condition, self.told)), self.told

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        self._reader.join(60)
        assert self.process.stderr is not None
        with self.process.stderr:
            assert "Traceback" not in self.process.stderr.read()
        return self.process.wait(60)


@pytest.mark.soak
def test_it_watches_until_ctrl_c(scripted: ScriptedWorker, data: Path, tmp_path: Path, dormouse: Dormouse) -> None:
    folder = write_files(tmp_path, {"in/a.pdf": pdf([["one"]])}) / "in"
    options = ("--data", data, "--worker", scripted.url)
    watching = Running(folder, *options)
    watching.wait_for(lambda one: one.get("file") == "in/a.pdf")
    content = pdf([["slowly"], ["written"]])
    with (folder / "slow.pdf").open("wb") as stream:
        for start_at in range(0, len(content), len(content) // 4):
            stream.write(content[start_at : start_at + len(content) // 4])
            stream.flush()
            threading.Event().wait(0.7)
    watching.wait_for(lambda one: one["type"] == "page" and (one["file"], one["page"]) == ("in/slow.pdf", 2))
    assert watching.stop() == 0
    assert not [one for one in watching.told if one["type"] == "skipped"], "a half-written file was read"
    assert watching.told[-1]["type"] == "summary" and watching.told[-1]["added"] == 3
    listed = dormouse("list", "--files", "--collection", "c")
    assert listed.out == "     1  in/a.pdf\n     2  in/slow.pdf\n", "the folder is free again"


def test_mistakes_end_it(dormouse: Dormouse, tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", Path(__file__)):
        found = dormouse("watch", folder, "--collection", "c")
        assert found.code == 1 and found.err.startswith("dormouse watch: ") and found.err.count("\n") == 1
    (tmp_path / "in").mkdir()
    unreachable = end(start("watch", tmp_path / "in", "--collection", "c", "--page", "http://localhost:1"))
    assert unreachable.code == 1 and "there is no page" in unreachable.err
