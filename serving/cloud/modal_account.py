"""Asks a Modal account by the official client, with a deadline for each call and a sentence for each failure.

The client is imported with the first call: without Modal it need not be installed. Nothing here wakes a container.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import ModuleType
from typing import Literal, TypeVar

from serving.system.timeouts import DeadlineExceeded, run_with_deadline

T = TypeVar("T")

ANSWER_S = 40.0
"""Deadline of one call. The client itself retries for a minute before it reports that Modal is not reachable."""
COMMAND_S = 60.0
INSTALL = "run `pip install 'dormouse-search[modal]'`, in a clone `pip install -e '.[modal]'`"
SIGN_IN = "run `python -m modal setup`"


class AccountError(Exception):
    """A failure, in a sentence that says what to run."""


class NotFound(AccountError):
    """The account has no such app, secret or volume."""


def import_client() -> ModuleType:
    """Return the package `modal`. Raises AccountError."""
    try:
        import modal
    except ImportError:
        raise AccountError(f"Modal's client is not installed here: {INSTALL}") from None
    return modal


def has_token() -> bool:
    """Return whether a token is set here, by file or environment, valid or not. Makes no call."""
    try:
        from modal.config import config
    except ImportError:
        return False
    return bool(config.get("token_id")) and bool(config.get("token_secret"))


def ask_modal(question: Callable[[], T], missing: str = "", seconds: float = ANSWER_S) -> T:
    """Return the client's answer. `missing`: the sentence for NotFound. Raises AccountError."""
    import_client()
    try:
        return run_with_deadline(seconds, question)
    except DeadlineExceeded:
        raise AccountError(f"Modal did not answer within {seconds:g} s: is this machine online?") from None
    except Exception as error:
        raise translate_error(error, missing) from None


def translate_error(error: Exception, missing: str = "") -> Exception:
    """Return the AccountError for an exception of the client; other exceptions unchanged."""
    kinds = import_client().exception
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if isinstance(error, AccountError):
        return error
    if isinstance(error, kinds.NotFoundError):
        return NotFound(missing or f"Modal does not know it: {said}")
    if isinstance(error, kinds.AuthError) and "Token missing" in str(error):
        return AccountError(f"no token of a Modal account is set here: {SIGN_IN}")
    unreachable = f"Modal cannot be reached ({said}): is this machine online?"
    later = f"Modal could not do that now ({said}): try again, and see status.modal.com"
    for kind, sentence in (
        (kinds.AuthError, f"Modal refused the token ({said}): {SIGN_IN}"),
        (kinds.PermissionDeniedError, f"this token may not do that ({said}): ask the workspace's owner, or {SIGN_IN}"),
        (kinds.ServiceError | kinds.InternalError, later),
        (kinds.ConnectionError | OSError, unreachable),
        (kinds.Error, f"Modal says: {said}"),
    ):
        if isinstance(error, kind):
            return AccountError(sentence)
    return AccountError(unreachable) if type(error).__module__.startswith("grpclib") else error


def read_workspace_name() -> str:
    """Return the name of the token's workspace, which checks the token too. Raises AccountError."""
    return str(ask_modal(lambda: import_client().Workspace.from_context().hydrate().name or ""))


@dataclass(frozen=True)
class DeployedApp:
    """An app that is deployed."""

    app_id: str
    version: int
    deployed_at: float
    """Seconds since 1970; 0 where Modal does not say."""


def look_up_app(name: str, missing: str = "") -> DeployedApp:
    """Return a deployed app. `missing`: the sentence if it is not. Raises AccountError: NotFound if there is none."""

    def look_up() -> DeployedApp:
        found = import_client().App.lookup(name)
        state = found.info().lifecycle
        return DeployedApp(found.app_id, state.version or 0, state.deployed_at.timestamp() if state.deployed_at else 0)

    return ask_modal(look_up, missing or f"{name} is not deployed")


def read_tags(name: str, missing: str = "") -> dict[str, str]:
    """Return the tags of a deployed app. Raises AccountError as `look_up_app`."""
    return ask_modal(lambda: dict(import_client().App.lookup(name).get_tags()), missing or f"{name} is not deployed")


def run_command(*words: str) -> str:
    """Return the output of one of the client's commands: some have no method in Python. Raises AccountError."""
    import_client()
    command = [sys.executable, "-m", "modal", *words]
    try:
        found = subprocess.run(  # noqa: S603 - our own interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S
        )
    except subprocess.TimeoutExpired:
        raise AccountError(f"`modal {' '.join(words)}` did not end within {COMMAND_S:g} s") from None
    if found.returncode:
        said = (found.stderr.strip() or found.stdout.strip()).splitlines()
        raise AccountError(f"`modal {' '.join(words)}` failed: {' '.join(line.strip(' │╭╮╰╯─') for line in said)}")
    return found.stdout


def list_containers(app_id: str) -> list[str]:
    """Return the ids of the app's containers, of all its functions together. Raises AccountError."""
    text = run_command("container", "list", "--app-id", app_id, "--json")
    try:
        return [str(row["container_id"]) for row in json.loads(text)]
    except (ValueError, KeyError, TypeError):
        raise AccountError("`modal container list --json` printed something else than a list of containers") from None


def stop_containers(container_ids: Sequence[str]) -> None:
    """Stop containers at once, with requests in flight; those that are gone are skipped. Raises AccountError."""
    for container_id in container_ids:
        try:
            run_command("container", "stop", container_id, "-y")
        except AccountError as error:
            if "not found" not in str(error).lower():
                raise


def has_secret(name: str, keys: Sequence[str] = ()) -> bool:
    """Return whether a secret exists. Raises AccountError, also for one without these keys."""
    return finds_object(lambda: import_client().Secret.from_name(name, required_keys=list(keys)).hydrate())


def has_volume(name: str) -> bool:
    """Return whether a volume exists. Raises AccountError."""
    return finds_object(lambda: import_client().Volume.from_name(name).hydrate())


def finds_object(question: Callable[[], object]) -> bool:
    """Return whether a call finds its object. Raises AccountError."""
    try:
        ask_modal(question)
    except NotFound:
        return False
    return True


def create_secret(name: str, values: Mapping[str, str]) -> None:
    """Create a secret. Not by a command, whose arguments all users of this machine can read. Raises AccountError."""
    ask_modal(lambda: import_client().Secret.objects.create(name, dict(values)))


def update_secret(name: str, values: Mapping[str, str]) -> None:
    """Add keys to a secret that exists, or replace them; its others stay. Raises AccountError."""
    ask_modal(lambda: import_client().Secret.from_name(name).update(dict(values)))


def create_proxy_token(name: str) -> tuple[str, str]:
    """Create a token, and return its Modal-Key and Modal-Secret, which Modal shows only once. Raises AccountError."""
    made = ask_modal(lambda: import_client().Workspace.from_context().proxy_tokens.create(name=name))
    if not made.token_id or not made.token_secret:
        advice = "`modal workspace proxy-tokens create`, and set DORMOUSE_MODAL_KEY and DORMOUSE_MODAL_SECRET to it"
        raise AccountError(f"Modal made no proxy token: create one by {advice}")
    return str(made.token_id), str(made.token_secret)


def delete_object(kind: Literal["Volume", "Dict"], name: str) -> None:
    """Delete a volume or a dict with its content, if there is one. Raises AccountError."""
    ask_modal(lambda: getattr(import_client(), kind).objects.delete(name, allow_missing=True))


def read_spending(apps: Mapping[str, str], now: datetime) -> dict[str, Decimal]:
    """Return the dollars of each app this month (UTC) up to the last full hour; 0 where the bill has none.

    `apps`: app ids by name; `now` in UTC. Raises AccountError, also for an answer that is no bill.
    """
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)

    def bill() -> list[tuple[str, str, Decimal]]:
        billing = import_client().Workspace.from_context().billing
        rows = list(billing.report(start=month, end=today, resolution="d")) if today > month else []
        rows += billing.report(start=today, end=now, resolution="h")
        return [(row.object_id, row.description, row.cost) for row in rows]

    try:
        rows = ask_modal(bill)
    except ArithmeticError:
        raise AccountError("Modal's answer is no bill") from None
    return {
        name: sum((cost for object_id, title, cost in rows if app_id == object_id or name == title), Decimal(0))
        for name, app_id in apps.items()
    }
