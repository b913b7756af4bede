"""The lines of `dormouse status`; with Modal's double: tests/modal/test_deploy.py."""

from __future__ import annotations

import pytest

from ui.deploy.status import AppStatus, format_status, main

UP = AppStatus("dormouse", True, "https://x.modal.run", 3, 7_300.0, 2, 300, 1.5)


def test_a_line_has_what_is_known() -> None:
    assert format_status(UP).split(maxsplit=1) == [
        "dormouse",
        "v3, 2 h ago, 2 containers, window 300 s, $1.50 this month, https://x.modal.run",
    ]
    assert format_status(AppStatus("dormouse", True, note="counting failed")).split(maxsplit=1) == [
        "dormouse",
        "deployed, containers unknown, counting failed",
    ]


@pytest.mark.parametrize(("count", "words"), [(0, "at zero"), (1, "1 container"), (2, "2 containers")])
def test_containers_in_words(count: int, words: str) -> None:
    line = format_status(AppStatus("x", True, containers=count))
    assert line.endswith(f"deployed, {words}")


def test_what_is_not_deployed_says_what_to_run() -> None:
    note = "dormouse is not deployed: run `modal deploy ui/app.py`, or `dormouse deploy`"
    line = format_status(AppStatus("dormouse", False, note=note))
    assert line == "dormouse               not deployed: run `modal deploy ui/app.py`, or `dormouse deploy`"


def test_its_help_says_that_nothing_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "It starts nothing" in capsys.readouterr().out
