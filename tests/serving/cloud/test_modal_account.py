"""What is said where Modal cannot be asked. What it answers is tested with the local cloud, in tests/modal."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from grpclib.exceptions import StreamTerminatedError

from serving.cloud import modal_account
from serving.cloud.modal_account import AccountError, translate_error

ROOT = Path(__file__).parents[3]
ASK = """
import sys
from serving.cloud import modal_account as account
try:
    account.ask_modal(lambda: account.import_client().Workspace.from_context().hydrate(), seconds=float(sys.argv[1]))
except account.AccountError as error:
    print(type(error).__name__, error)
"""


def asked(seconds: float, **environment: str) -> str:
    command = [sys.executable, "-c", ASK, str(seconds)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "MODAL_CONFIG_PATH": "/nonexistent", **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modal", None)
    with pytest.raises(AccountError, match=r"pip install 'dormouse-search\[modal\]'"):
        modal_account.read_workspace_name()
    with pytest.raises(AccountError, match="is not installed"):
        modal_account.run_command("app", "list")


def test_without_a_token() -> None:
    assert asked(30) == "AccountError no token of a Modal account is set here: run `python -m modal setup`"


def test_nobody_there_is_told_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    token = {"MODAL_TOKEN_ID": "ak-x", "MODAL_TOKEN_SECRET": "as-x"}
    found = asked(1.5, MODAL_SERVER_URL=f"http://127.0.0.1:{port}", **token)
    assert found == "AccountError Modal did not answer within 1.5 s: is this machine online?"


def test_each_failure_of_the_client_s_has_its_sentence() -> None:
    kinds = modal_account.import_client().exception
    told = {
        kinds.AuthError("the token was deleted.\nmore"): (
            "Modal refused the token (the token was deleted): run `python -m modal setup`"
        ),
        kinds.PermissionDeniedError("no"): "this token may not do that (no)",
        kinds.NotFoundError("x"): "it is not here",
        kinds.ConnectionError("gone"): "Modal cannot be reached (gone)",
        StreamTerminatedError("Connection lost"): "Modal cannot be reached (Connection lost)",
        TimeoutError("late"): "Modal cannot be reached (late)",
        kinds.ServiceError("busy"): "Modal could not do that now (busy): try again",
        kinds.InvalidError("wrong"): "Modal says: wrong",
        kinds.ResourceExhaustedError("full"): "Modal says: full",
    }
    for error, words in told.items():
        found = translate_error(error, "it is not here")
        assert isinstance(found, AccountError) and str(found).startswith(words)
    other = KeyError("x")
    assert translate_error(other) is other


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(AccountError, match=r"`modal app nonsense` failed: .*No such command"):
        modal_account.run_command("app", "nonsense")
