from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.system.files import (
    copy_file,
    file_stamp,
    lock_file,
    open_replacement,
    remove_files,
    sync_folder,
    write_file,
)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"one", 0o600)
    assert path.read_bytes() == b"one" and path.stat().st_mode & 0o777 == 0o600
    write_file(path, b"two")
    copy_file(path, tmp_path / "copy")
    sync_folder(tmp_path)
    assert (tmp_path / "copy").read_bytes() == b"two" and len(list(tmp_path.iterdir())) == 2


def test_what_fails_on_the_way_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"one")
    with pytest.raises(KeyError), open_replacement(path) as stream:
        stream.write(b"half")
        raise KeyError("scripted")
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "none", path)
    assert path.read_bytes() == b"one" and list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_collide(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open_replacement(path) as one, open_replacement(path) as other:
        one.write(b"first")
        other.write(b"second")
    assert path.read_bytes() == b"first", "the last that is complete stays"


def test_a_stamp_changes_with_the_content_whatever_time_is_set(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before, stat = file_stamp(path), path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_stamp(path) != before


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = lock_file(path)
    with pytest.raises(BlockingIOError):
        lock_file(path)
    os.close(held)
    os.close(lock_file(path))
    remove_files([path, tmp_path / "none"])
    assert not path.exists()
