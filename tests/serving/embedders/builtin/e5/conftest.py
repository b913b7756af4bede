from __future__ import annotations

import pytest

from serving.embedders.builtin.e5.encoder import E5


@pytest.fixture(scope="package")
def e5(tmp_path_factory: pytest.TempPathFactory) -> E5:
    return E5(tmp_path_factory.mktemp("models"))
