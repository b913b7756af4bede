"""What a worker gets at its launch."""

from __future__ import annotations

import json
from pathlib import Path

from serving.snapshots.base import GpuMemoryInUse, Launch, RestoreFailed, StartFailed


def test_a_launch_is_json_and_shows_no_key() -> None:
    launch = Launch(Path("/run/w.sock"), "restored", {"api_keys": "very-secret"}, 5)
    message = json.loads(json.dumps(launch.as_message()))
    assert message == {"socket": "/run/w.sock", "kind": "restored", "settings": {"api_keys": "very-secret"}}
    assert "very-secret" not in repr(launch)


def test_only_a_start_says_whether_any_client_may_read_its_reason() -> None:
    assert not StartFailed("a path").public and StartFailed("no GPU", public=True).public
    assert isinstance(GpuMemoryInUse("3 GB are missing"), RestoreFailed)
