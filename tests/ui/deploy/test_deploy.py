"""The parts of `dormouse deploy` and `destroy` that ask nobody; with Modal's double: tests/modal/test_deploy.py."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable

import pytest

from serving.cloud.modal_account import AccountError
from ui.deploy import deploy
from ui.deploy.apps import list_apps, read_setup


def test_a_first_deployment_creates_secrets_and_token_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_PAGE_SECRET_NAME", "my page's")
    setup = read_setup()
    lines = deploy.list_commands(list_apps(setup), setup)
    assert [line.split()[1] for line in lines] == ["secret", "workspace", "secret", "deploy", "deploy", "deploy"]
    assert "HF_TOKEN=$HF_TOKEN" in lines[0] and "create 'my page'\"'\"'s' " in lines[2]
    monkeypatch.setenv("DORMOUSE_MODAL_ACCESS", "keys")
    setup = read_setup()
    assert deploy.list_commands(list_apps(setup, ["vllm"]), setup)[1:] == [
        "modal deploy serving/serve_vllm_snapshot.py"
    ]


def test_the_store_of_the_page_is_named_by_its_variable() -> None:
    setup = read_setup()
    *_, secret, page = deploy.list_commands(list_apps(setup, ["page"]), setup, stored=True)
    assert "DORMOUSE_STORE=$DORMOUSE_STORE" in secret
    assert page == "DORMOUSE_PAGE_USE_STORE=True modal deploy ui/app.py"
    with pytest.raises(SystemExit):
        deploy.main(["--store", "postgresql://h/d", "--only", "hf"])


def test_modals_client_does_not_get_the_address_of_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, str]] = []

    def run(command: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        given.append(env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("DORMOUSE_STORE", "postgresql://u:pa55word@h/d")
    monkeypatch.setattr(subprocess, "run", run)
    assert deploy.run_modal("deploy", "ui/app.py", environment=deploy.USE_STORE) == 0
    assert given[0]["DORMOUSE_PAGE_USE_STORE"] == "True" and "pa55word" not in "".join(given[0].values())


def fail(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_each_end_has_its_code_and_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.report_errors(lambda: 3, "not deployed", "it stays") == 3
    for error in (AccountError("no token"), ValueError("odd"), OSError("disk")):
        assert deploy.report_errors(fail(error), "not deployed", "it stays") == 1
        assert capsys.readouterr().err == f"not deployed: {error}\n"
    assert deploy.report_errors(fail(KeyboardInterrupt()), "not deployed", "it stays") == 130
    assert capsys.readouterr().err == "stopped; it stays\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("said", "default", "agreed"),
    [
        ("y\n", False, True),
        ("YES\n", False, True),
        ("\n", True, True),
        ("\n", False, False),
        ("n\n", True, False),
        ("", True, False),
    ],
)
def test_a_terminal_is_asked(said: str, default: bool, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(said))
    assert deploy.confirm("Deploy?", False, default=default) is agreed


def test_without_a_terminal_only_yes_agrees(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert deploy.confirm("Deploy?", True, default=False) and not deploy.confirm("Deploy?", False, default=True)
    assert "add --yes" in capsys.readouterr().err


@pytest.mark.parametrize("main", [deploy.main, deploy.destroy_main])
def test_only_what_can_be_deployed_can_be_chosen(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "other"])
    assert "invalid choice: 'other'" in capsys.readouterr().err


def test_a_dry_run_prints_costs_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main(["--dry-run", "--only", "page"]) == 0
    out = capsys.readouterr().out
    assert "An hour while it is up" in out and out.rstrip().endswith("modal deploy ui/app.py")
