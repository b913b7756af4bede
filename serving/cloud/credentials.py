"""Reads the keys of the servers on Modal: from the environment, else from the private file of `dormouse deploy`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.errors import BadValueError
from serving.http.redirects import PROXY_HEADERS, read_proxy_headers
from serving.system.files import write_file

FILE = "modal-keys.json"
PASSWORD_CHARS = 8
"""Least length of a password: everybody can try one."""
API, ADMIN, PASSWORD = "DORMOUSE_WORKER_KEY", "DORMOUSE_ADMIN_KEY", "DORMOUSE_PAGE_PASSWORD"
STORE = "DORMOUSE_STORE"
"""The page's own, in its secret: an address with a password, which is kept nowhere else."""
PROXY = tuple(PROXY_HEADERS.values())
NAMES = (API, ADMIN, *PROXY, PASSWORD)
"""Keys of the API and of the admin's routes, the proxy token that Modal's edge asks for, the page's password."""


@dataclass(frozen=True)
class Keys:
    """Keys, empty where there is none. `headers` hold the proxy token; `password` is that of the page on Modal."""

    api: str = field(default="", repr=False)
    admin: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    password: str = field(default="", repr=False)


def load_keys(data: Path, environment: Mapping[str, str]) -> Keys:
    """Return the keys. Raises ValueError for half of a proxy token, and for a file that cannot be read."""
    found = {**read_saved_keys(data), **{name: environment[name] for name in NAMES if environment.get(name)}}
    try:
        return Keys(found.get(API, ""), found.get(ADMIN, ""), read_proxy_headers(found), found.get(PASSWORD, ""))
    except BadValueError as error:
        raise ValueError(error.message) from None


def read_saved_keys(data: Path) -> dict[str, str]:
    """Return the keys in the file, none without a file. Raises ValueError that names the path and no key."""
    path = data / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}): remove it, and deploy again") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{path} holds something else than keys: remove it, and deploy again")
    return {name: value for name, value in found.items() if name in NAMES}


def save_keys(data: Path, more: Mapping[str, str]) -> Path:
    """Add keys to the file, and return its path. Raises OSError, ValueError."""
    data.mkdir(parents=True, exist_ok=True)
    path = data / FILE
    content = json.dumps({**read_saved_keys(data), **more}, indent=1) + "\n"
    write_file(path, content.encode(), 0o600)
    return path
