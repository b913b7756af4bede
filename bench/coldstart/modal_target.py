"""A server of ours on Modal as a target: found by its app's name, and scaled down without ever being woken by that.

It is at zero when Modal counts no container. Whether the next answer was cold is for `sample.why_not_cold` to say.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import requests

from bench.coldstart.sample import CREATED, RESTORED
from bench.coldstart.target import Target, TargetError, count_down
from bench.results.record import Say
from serving.cloud import modal_account
from serving.cloud.credentials import Keys, load_keys
from serving.cloud.modal_account import AccountError, ask_modal
from serving.settings import Settings

CLASS = "Worker"
METHOD = "web"
APPS = {"hf": "bigemma3-hf-serve", "vllm": "bigemma3-vllm-serve"}
"""The app of each deployment, as its file names it."""
FILES = {"hf": "serving/serve_hf_snapshot.py", "vllm": "serving/serve_vllm_snapshot.py"}
SETTLE_S = 30.0
"""Seconds left after a start that made a snapshot: Modal may still be writing it, and a container that is stopped
meanwhile may take it along."""
ANSWER_S = 10.0
"""Seconds for the worker's answer to a scaledown, which comes at once."""
LEAVE_S = 45.0
"""Seconds for the container to be gone after it was told to end, or stopped."""
SHORTEST_S = 2
"""The shortest scaledown window that Modal takes."""
WINDOW_S = 60
"""Modal's default window, put back where the app had none of its own."""
POLL_S = 0.5


class ModalServer(Target):
    """An app of ours on Modal, scaled down in one of three ways, the mildest first."""

    def __init__(self, name: str, app: str, access: Keys, settle_s: float = SETTLE_S) -> None:
        """Look up the app. `name` is the target's. Raises TargetError."""
        self.name = name
        self.app = app
        self.key = access.api
        self.headers = access.headers
        self._admin = access.admin
        self._settle_s = settle_s
        self._latest = ""
        self._restores = False
        with raise_as_target_errors():
            self._function = look_up_function(app)
            self.url = ask_modal(self._function.get_web_url, explain_not_deployed(app)) or ""
        if not self.url:
            raise TargetError(f"{app} has no web address: its class {CLASS} needs a method {METHOD} with asgi_app")
        self.url = self.url.rstrip("/")
        self.title = f"{app} on Modal at {self.url}"

    def note_start(self, start_kind: str) -> None:
        """Remember whether it may be writing a snapshot now, and whether it has one."""
        self._latest = start_kind
        self._restores |= start_kind == RESTORED

    def count_containers(self) -> int:
        """Return how many containers start, serve or idle. Wakes none. Raises TargetError."""
        with raise_as_target_errors():
            return int(ask_modal(self._function.get_current_stats, explain_not_deployed(self.app)).num_total_runners)

    def scale_down(self, say: Say) -> None:
        """Return once Modal counts no container. Raises TargetError."""
        if self._latest == CREATED:
            count_down(self._settle_s, say, "leaving it the time to write its snapshot")
        self._latest = ""
        if self.count_containers() == 0:
            return
        for scale_down in (self._ask_worker, self._stop_containers, self._shorten_window):
            if scale_down(say):
                return
        with contextlib.suppress(AccountError):
            if least := ask_modal(self._function.autoscaler.settings).min_containers:
                raise TargetError(f"{self.app} never comes to zero: it is deployed with min_containers={least}")
        raise TargetError(f"Modal still holds a container of {self.app}: someone else may be using it")

    def _ask_worker(self, say: Say) -> bool:
        """Have the worker take no more requests and end."""
        if not self._admin:
            return False
        say("asking its worker to end")
        headers = {**self.headers, "X-Admin-Key": self._admin}
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(f"{self.url}/scaledown", headers=headers, timeout=ANSWER_S, allow_redirects=False)
            if answer.status_code == 200:
                return self._wait_until_gone(say)
            reply = f"answered {answer.status_code}"
        except requests.RequestException:
            reply = "did not answer"
        say(f"its worker {reply}: having its containers stopped by Modal instead")
        return False

    def _stop_containers(self, say: Say) -> bool:
        """Have Modal stop them."""
        say("having its containers stopped")
        try:
            app_id = modal_account.look_up_app(self.app, explain_not_deployed(self.app)).app_id
            modal_account.stop_containers(modal_account.list_containers(app_id))
        except AccountError as error:
            say(f"they were not stopped: {error}")
            return False
        return self._wait_until_gone(say)

    def _shorten_window(self, say: Say) -> bool:
        """Shorten the window, if a restore was seen: it could end a container before its first snapshot is written.

        Puts it back, however the wait ends; a new deployment puts it back too.
        """
        if not self._restores:
            return False
        with raise_as_target_errors():
            former = ask_modal(self._function.autoscaler.settings).scaledown_window or WINDOW_S
        update = self._function.autoscaler.update
        try:
            with raise_as_target_errors():
                ask_modal(lambda: update(scaledown_window=SHORTEST_S))
            return self._wait_until_gone(say)
        finally:
            try:
                ask_modal(lambda: update(scaledown_window=former))
            except AccountError as error:
                raise TargetError(
                    f"the scaledown window of {self.app} was {former} s, may be {SHORTEST_S} s now, and could not be"
                    f" put back ({error}): deploy it again"
                ) from None

    def _wait_until_gone(self, say: Say) -> bool:
        ends = time.monotonic() + LEAVE_S
        while self.count_containers():
            if (left := ends - time.monotonic()) <= 0:
                return False
            say(f"waiting until Modal holds no container of it, {left:.0f} s left")
            time.sleep(POLL_S)
        return True


def look_up_function(app: str, class_name: str = CLASS, missing: str = "") -> Any:
    """Return the web function of an app. `missing` is the sentence if it is not deployed. Raises AccountError."""
    try:
        return ask_modal(
            lambda: getattr(modal_account.import_client().Cls.from_name(app, class_name)(), METHOD),
            missing or explain_not_deployed(app),
        )
    except AttributeError:
        raise AccountError(f"{app} is no server of Dormouse's: its class {class_name} has no {METHOD}") from None


def explain_not_deployed(app: str) -> str:
    for deployment, name in APPS.items():
        if name == app:
            return f"{app} is not deployed: run `modal deploy {FILES[deployment]}`, or `dormouse deploy`"
    return f"{app} is not deployed, or no server of ours: `modal app list` shows what is"


@contextlib.contextmanager
def raise_as_target_errors() -> Iterator[None]:
    try:
        yield
    except AccountError as error:
        raise TargetError(str(error)) from None


def open_modal_target(deployment: str, app: str = "", settle_s: float = SETTLE_S) -> Target:
    """Return the target of a deployment. `app`: another name than its file's. Raises TargetError, ValueError."""
    access = load_keys(Settings().data, os.environ)
    return ModalServer(deployment, app or APPS[deployment], access, settle_s)
