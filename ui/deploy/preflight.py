"""The checks before a deployment, each with a sentence that says what to do if it fails.

They change nothing. A check that cannot be made from this machine says so, and holds nothing up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from serving.cloud import modal_account
from serving.cloud.credentials import ADMIN, API, PASSWORD, PASSWORD_CHARS, STORE, Keys
from serving.cloud.modal_account import AccountError
from serving.errors import ServingError
from serving.library.stores import import_postgres
from serving.system.timeouts import DeadlineExceeded, run_with_deadline
from ui.deploy.apps import App, Setup

HUB_S = 15.0
"""Time for the model hub to say whether a token may read the weights."""
TOKENS = ("HF_TOKEN", "HUGGINGFACE_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class Outcome(Enum):
    """The mark in front of a check's sentence."""

    GOOD = "ok"
    MAKE = "make"
    """Missing; the deployment creates it."""
    UNSEEN = "?"
    BAD = "no"


class Check(NamedTuple):
    """What was found, in a sentence."""

    name: str
    mark: Outcome
    text: str

    def __str__(self) -> str:
        return f"  {self.mark.value:<5}{self.text}"


def run_checks(
    apps: Sequence[App],
    setup: Setup,
    access: Keys,
    environment: Mapping[str, str],
    *,
    store: str | None = None,
    hub: bool = True,
) -> list[Check]:
    """Return the checks in the order in which they are printed; none follows one that prevents the others.

    `store`: the address that the page is to have, "" for its volume, None for what it has.
    """
    servers = any(not app.is_page for app in apps)
    try:
        name = modal_account.read_workspace_name() or "without a name"
        found = [Check("account", Outcome.GOOD, f"signed in to Modal, workspace {name}")]
        if servers:
            found.append(check_secret(setup.servers.secret_name, access, environment))
        found.append(check_access(setup.servers.access, access))
        if any(app.is_page for app in apps):
            found.append(check_page_secret(setup.page.secret_name, access))
            found += check_store(store, setup.page.secret_name)
    except AccountError as error:
        return [Check("account", Outcome.BAD, str(error))]
    if hub and servers:
        found.append(check_licence(setup.servers.weights, find_hub_token(environment)))
    quota = "how many GPUs this account may use at once cannot be seen from here: a start that gets none waits"
    return [*found, Check("quota", Outcome.UNSEEN, quota)]


def check_secret(name: str, access: Keys, environment: Mapping[str, str]) -> Check:
    """Check the servers' secret. Raises AccountError."""
    if not name:
        return Check("secret", Outcome.GOOD, "no secret is needed (DORMOUSE_MODAL_SECRET_NAME is empty)")
    if modal_account.has_secret(name):
        unknown = "" if access.api else f"; if it has keys, set {API} and {ADMIN} to them, which are not set here"
        return Check("secret", Outcome.GOOD, f"the secret {name} exists{unknown}")
    if find_hub_token(environment):
        return Check("secret", Outcome.MAKE, f"the secret {name}, from your HF_TOKEN, an API key and an admin key")
    how = f"set HF_TOKEN and run this again, or run `modal secret create {name} HF_TOKEN=hf_...`"
    return Check("secret", Outcome.BAD, f"there is no secret {name}, and HF_TOKEN is not set to create it from: {how}")


def check_page_secret(name: str, access: Keys) -> Check:
    """Check the page's secret. Raises AccountError."""
    if modal_account.has_secret(name):
        try:
            modal_account.has_secret(name, [PASSWORD])
        except AccountError as error:
            how = f"run `modal secret delete {name}`, then this again"
            return Check("page secret", Outcome.BAD, f"the secret {name} cannot be used ({error}): {how}")
        return Check("page secret", Outcome.GOOD, f"the secret {name} exists")
    if access.password and len(access.password) < PASSWORD_CHARS:
        return Check(
            "page secret", Outcome.BAD, f"{PASSWORD} is too short: it needs at least {PASSWORD_CHARS} characters"
        )
    own = "your" if access.password else "a new"
    return Check("page secret", Outcome.MAKE, f"the secret {name}, from {own} page password and the servers' keys")


def check_store(address: str | None, secret: str) -> list[Check]:
    """Check the store that the page is to have, if it is to have one. Raises AccountError."""
    name = "store"
    if address:
        return [check_address(address, secret)]
    if not has_store(secret):
        return []
    if address is None:
        text = f"the collections are in the store that the secret {secret} names: not asked from here without --store"
        return [Check(name, Outcome.UNSEEN, text)]
    how = f"for its volume instead, run `modal secret delete {secret}`, then this again"
    return [Check(name, Outcome.BAD, f"the secret {secret} has a store, which a page with this secret takes: {how}")]


def check_address(address: str, secret: str) -> Check:
    """Check whether this machine reaches a store, and it can be one."""
    try:
        postgres = import_postgres()
        if is_out_of_reach(address):
            text = "the store is on this machine, where no container on Modal reaches it: name one that all reach"
            return Check("store", Outcome.BAD, text)
        found = postgres.describe_server(address)
    except ServingError as error:
        return Check("store", Outcome.BAD, error.message)
    return Check("store", Outcome.GOOD, f"the store is {found}; its address goes into the secret {secret}")


def is_out_of_reach(address: str) -> bool:
    """Raises BadValueError for what is no address."""
    return bool(import_postgres().is_local_address(address))


def has_store(secret: str) -> bool:
    """Return whether the page's secret names a store. Raises AccountError."""
    try:
        return modal_account.has_secret(secret) and modal_account.has_secret(secret, [STORE])
    except AccountError:  # it has other keys
        return False


def check_access(access: str, keys: Keys) -> Check:
    """Check who may call the servers."""
    if access == "open":
        text = "the servers are open: everybody who knows an address can start a GPU"
    elif access == "keys":
        text = "the servers ask for an API key; a call without one still starts a container"
    elif keys.headers:
        text = "this machine has a proxy token (Modal-Key): calls without one are refused and start nothing"
    else:
        return Check("edge", Outcome.MAKE, "a proxy token: Modal refuses calls without one and starts nothing")
    return Check("edge", Outcome.GOOD, text)


def check_licence(weights: str, token: str) -> Check:
    """Check whether the token may read the weights."""
    name = "licence"
    if Path(weights).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", weights):
        return Check(name, Outcome.UNSEEN, f"the weights {weights} are not a name on the hub: not checked")
    where = f"https://huggingface.co/{weights}"
    if not token:
        return Check(
            name,
            Outcome.UNSEEN,
            f"HF_TOKEN is not set here: the first start shows whether the secret's may read {weights}",
        )
    from huggingface_hub import auth_check
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        run_with_deadline(HUB_S, lambda: auth_check(weights, token=token))
    except GatedRepoError:
        text = f"the licence of {weights} is not accepted: open {where} with the account of HF_TOKEN, and accept it"
        return Check(name, Outcome.BAD, text)
    except Exception as error:  # offline, or the hub is not well: that does not hold the deployment up
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404):
            text = f"the hub shows no {weights} to this HF_TOKEN: is the token right? See {where}"
            return Check(name, Outcome.BAD, text)
        why = f"no answer within {HUB_S:g} s" if isinstance(error, DeadlineExceeded) else type(error).__name__
        return Check(name, Outcome.UNSEEN, f"the hub could not be asked about {weights} ({why})")
    return Check(name, Outcome.GOOD, f"HF_TOKEN may read {weights}")


def find_hub_token(environment: Mapping[str, str] = os.environ) -> str:
    """Return the token by the first of its names; empty if there is none."""
    return next((environment[name].strip() for name in TOKENS if environment.get(name, "").strip()), "")
