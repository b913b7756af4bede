"""Requests to a worker, and the errors it answers with."""

from __future__ import annotations

import json
from pathlib import Path

import requests


def post(url: str, body: object, path: str = "/embed", **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return requests.post(url + path, data=data, headers={"Content-Type": "application/json", **headers}, timeout=60)


def error_of(response: requests.Response, status: int) -> dict[str, str]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for inner in ("Traceback", "secret detail", str(Path.cwd())):
        assert inner not in response.text
    return dict(error)
