"""The images' exact versions are those that pyproject.toml allows, and all that it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serving.cloud.modal_app import read_pins
from tests.support.pins import FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_versions_are_exact_and_allowed(file: Path) -> None:
    found = {canonicalize_name(each.name): each for each in map(Requirement, read_pins(file))}
    for name, each in found.items():
        (one,) = each.specifier
        assert one.operator == "==" and "*" not in one.version, name
        assert each.url is None, name
    for wanted in map(Requirement, FILES[file]()):
        (one,) = found[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(one.version), f"run `make pins`: {wanted} is not {one}"
