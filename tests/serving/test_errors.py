from __future__ import annotations

import json

import pytest

from serving import errors
from serving.errors import BusyError, NotFoundError, NotReadyError, ServingError, make_error

KINDS = [ServingError, *ServingError.__subclasses__()]
OURS = [kind for kind in KINDS if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OURS)
def test_an_error_survives_the_way_to_its_client(kind: type[ServingError]) -> None:
    sent = kind("what is wrong", param="texts.0", code="a_code")
    found = make_error(kind.status, json.dumps(sent.body()).encode(), 2.0)
    assert found.status == kind.status and found.body()["error"] == {**sent.body()["error"], "type": found.type}
    assert found.retry_after == 2.0


def test_each_status_is_one_kind_and_any_other_is_the_base() -> None:
    assert {type(make_error(kind.status, b"")) for kind in OURS} == set(OURS) - {errors.BadVectorError}
    assert type(make_error(500, b"")) is type(make_error(599, b"")) is ServingError


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"error": null}', b'{"error": []}', b'{"error": {"message": 7}}', b"[" * 9_999],
)
def test_a_body_that_is_no_error_is_told_by_its_status(body: bytes) -> None:
    found = make_error(404, body)
    assert type(found) is NotFoundError and found.message == "the server answered HTTP 404 without an error body"
    assert found.code == "not_found" and found.param is None


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.6, "2"), (60.0, "60")])
def test_a_client_that_obeys_does_not_spin(seconds: float, header: str) -> None:
    assert BusyError("full", retry_after=seconds).headers() == {"Retry-After": header}
    assert BusyError("full").headers() == {}


def test_a_kind_may_name_a_part_of_itself() -> None:
    class Part(NotReadyError, code="part"):
        """Only the code is its own."""

    class Older(NotReadyError):
        """As classes outside this module do."""

        code = "older"

    assert (Part.status, Part.type, Part("x").code) == (503, "service_unavailable", "part")
    assert Older("x").code == "older" and NotReadyError("x").code == "not_ready"
    assert Part("x", code="other").code == "other" and str(Part("why")) == "why"
