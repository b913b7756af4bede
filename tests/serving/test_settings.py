from __future__ import annotations

from pathlib import Path

import pytest

from serving.settings import Settings
from tests.support.servers import make_settings


def test_settings_are_frozen_and_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_settings(tmp_path).max_pixels = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="greater than or equal"):
        Settings(max_pixels=0)
