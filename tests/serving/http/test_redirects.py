"""What Modal's edge asks for. Where its 303 leads is tested with the client that follows it."""

from __future__ import annotations

import pytest

from serving.errors import BadValueError
from serving.http.redirects import read_proxy_headers, select_proxy_headers


def test_the_edge_s_headers_come_as_a_pair() -> None:
    assert read_proxy_headers({}) == {}
    both = {"DORMOUSE_MODAL_KEY": " wk-1\n", "DORMOUSE_MODAL_SECRET": "ws-1"}
    assert read_proxy_headers(both) == {"Modal-Key": "wk-1", "Modal-Secret": "ws-1"}
    for name in both:
        with pytest.raises(BadValueError, match="DORMOUSE_MODAL_KEY and DORMOUSE_MODAL_SECRET belong together"):
            read_proxy_headers({name: "x"})


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://me--app-worker-web.modal.run", True),
        ("https://me--app.us-east.modal.direct/base", True),
        ("https://ME--APP.MODAL.RUN", True),
        ("http://me--app.modal.run", False),
        ("https://modal.run.elsewhere.example", False),
        ("https://elsewhere.example/.modal.run", False),
        ("https://me@elsewhere.example", False),
        ("https://notmodal.run", False),
        ("http://127.0.0.1:8000", False),
        ("http://[", False),
    ],
)
def test_only_modal_sees_its_token(url: str, sent: bool) -> None:
    both = {"DORMOUSE_MODAL_KEY": "wk-1", "DORMOUSE_MODAL_SECRET": "ws-1"}
    assert bool(select_proxy_headers(url, both)) is sent
