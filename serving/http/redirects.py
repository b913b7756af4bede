"""Reads the headers that Modal's edge asks for, and its 303 to an answer that comes later. Sends nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from urllib.parse import urljoin, urlsplit

import requests

from serving.errors import BadValueError, ServingError

FOLLOWED = 40
"""Limit of the 303s of one call: Modal answers one every 150 s, so these are 100 minutes."""
PROXY_HEADERS = {"Modal-Key": "DORMOUSE_MODAL_KEY", "Modal-Secret": "DORMOUSE_MODAL_SECRET"}
MODAL_HOSTS = (".modal.run", ".modal.direct")
REDIRECTS = (301, 302, 303, 307, 308)
NO_ADDRESS = "an invalid address"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def find_redirect(url: str, response: requests.Response) -> str | None:
    """Return the URL where a GET returns the answer, as Modal does for a long call; None if this is the answer.

    `url` is that of the call. Keys are sent along, so it must be the same server: raises ServingError for another one.
    """
    if response.status_code not in REDIRECTS or not (location := response.headers.get("Location")):
        return None
    try:
        after = urljoin(url, location)
        if response.status_code == 303 and parse_origin(after) == parse_origin(url):
            return after
        where = urlsplit(after).hostname
    except ValueError:
        where = NO_ADDRESS
    raise make_redirect_error(url, where)


def make_redirect_error(url: str, where: str | None) -> ServingError:
    """Return the error for a server that redirects its callers to another one."""
    message = f"{url} redirects to {where}: give the address of the server itself"
    return ServingError(message, code="redirected")


def parse_origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of an address. Raises ValueError."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that can be sent. Raises BadValueError, without the value: it may be a secret."""
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value):
            raise BadValueError(f"the header {name!r} is not one line of letters")
    return dict(headers)


def read_proxy_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that Modal's edge asks for in front of a server deployed with `requires_proxy_auth`.

    Without them the edge wakes no server. Empty if neither is set. Raises BadValueError if only one is.
    """
    found = {name: environment.get(variable, "").strip() for name, variable in PROXY_HEADERS.items()}
    if not any(found.values()):
        return {}
    if not all(found.values()):
        raise BadValueError(f"{' and '.join(PROXY_HEADERS.values())} belong together: one of them is not set")
    return check_headers(found)


def select_proxy_headers(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return `read_proxy_headers` for Modal; no other host must get the token. Raises BadValueError."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme == "https" and (parts.hostname or "").endswith(MODAL_HOSTS):
            return read_proxy_headers(environment)
    return {}
