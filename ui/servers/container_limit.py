"""The limit of containers of a server on Modal, raised for one job, and put back however that ends.

The limit before is written down first, in the data folder: after kill -9, the next job on this folder or the next
`dormouse deploy` puts it back. Only who finds the limit that was deployed raises it, so a second job, also one of
another machine, never takes the first one's limit for its own; and only a limit that is still the raised one is put
back.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from serving.cloud.modal_account import AccountError, NotFound
from serving.errors import BusyError, NotReadyError
from serving.system.files import lock_file, sync_folder, write_file
from serving.system.processes import handle_signals, hold_signals_back, list_ending_signals
from ui.servers.modal_target import ModalApp

PREFIX, NOTE, LOCK = "modal-limit-", ".json", ".lock"
Say = Callable[[str], None]
T = TypeVar("T")


class RaisedLimit(BaseModel):
    """A limit that a job has raised, or was about to."""

    model_config = ConfigDict(frozen=True)

    app: str
    before: int
    raised: int


@contextmanager
def raise_limit(app: ModalApp, folder: Path, containers: int, deployed: int, say: Say) -> Iterator[None]:
    """Let an app have so many containers while the block runs; where it may have them already, nothing is changed.

    Raises NotReadyError, where Modal cannot be asked or somebody else has changed the limit.
    """
    limit = ask(app.fetch_limit)
    if limit is None or limit >= containers:
        yield
        return
    if limit != deployed:
        raise NotReadyError(
            f"{name_limit(app.name)} is {limit}, and {deployed} was deployed: another job or somebody else has changed"
            f" it. Wait for that job's end, take --containers {limit}, or run `dormouse deploy`, which resets it",
            code="limit_changed",
        )
    note = RaisedLimit(app=app.name, before=deployed, raised=containers)
    path = folder / f"{PREFIX}{app.name}{NOTE}"
    was_raised = False
    with handle_signals(signal.default_int_handler, list_ending_signals()):  # a closed terminal is a Ctrl-C as well
        write_file(path, note.model_dump_json().encode(), 0o600)
        sync_folder(folder)
        try:
            with hold_signals_back():  # whoever gave up here would not know whether Modal does it later
                ask(lambda: app.change_limit(containers))
                was_raised = True
                say(f"{name_limit(app.name)} is {containers} now, and was {deployed}")
            yield
        finally:
            with hold_signals_back():
                put_back(app, note, path, say, was_raised=was_raised)


def put_back(app: ModalApp, note: RaisedLimit, path: Path, say: Say, *, was_raised: bool = True) -> None:
    """Put a limit back that is still the raised one, and say what became of it. Raises nothing of Modal's.

    `was_raised`: False where Modal may still raise it, because it did not answer: then the note stays for the next job.
    """
    try:
        limit = app.fetch_limit()
        if limit == note.raised:
            app.change_limit(note.before)
            say(f"{name_limit(app.name)} is {note.before} again")
        elif limit != note.before:
            now = "gone" if limit is None else f"{limit} now"
            say(f"{name_limit(app.name)} is {now}, not the {note.raised} of this job: that stays as it is")
    except NotFound:
        say(f"{app.name} is gone, and its limit with it")
    except AccountError as error:
        say(
            f"{name_limit(app.name)} may still be {note.raised} instead of {note.before} ({error}): the next `dormouse"
            " add --modal` or `dormouse deploy` on this folder puts it back"
        )
        return
    if was_raised:
        path.unlink(missing_ok=True)


def name_limit(app: str) -> str:
    return f"the limit of containers of {app}"


@contextmanager
def lock_limit(folder: Path, app: str) -> Iterator[None]:
    """Hold the right to change an app's limit from this folder. Raises BusyError where another process has it."""
    try:
        descriptor = lock_file(folder / f"{PREFIX}{app}{LOCK}")
    except BlockingIOError:
        raise BusyError(
            f"another job on {folder} already adds pages by {app}: wait until it has ended. Its limit of containers is"
            " left alone",
            code="limit_in_use",
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def put_back_left(folder: Path, say: Say) -> None:
    """Put back the limits that jobs of this folder have left raised: they were killed, or could not reach Modal."""
    for path in sorted(folder.glob(f"{PREFIX}*{NOTE}")):
        try:
            note = RaisedLimit.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            say(f"{path} cannot be read: remove it, and deploy again, which resets the limit of containers")
            continue
        with suppress(BusyError), lock_limit(folder, note.app):
            say(f"a job did not end well: {name_limit(note.app)} was {note.before}, and {note.raised} meanwhile")
            put_back(ModalApp(note.app), note, path, say)


def ask(question: Callable[[], T]) -> T:
    """Return what Modal answers. Raises NotReadyError with its sentence."""
    try:
        return question()
    except AccountError as error:
        raise NotReadyError(str(error), code="modal") from None
