from __future__ import annotations

import pytest

from serving.embedders.builtin.ocr import Ocr


@pytest.fixture(scope="session")
def ocr() -> Ocr:
    return Ocr()
