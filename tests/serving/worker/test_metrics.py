from __future__ import annotations

import requests

from tests.support.servers import ScriptedWorker
from tests.support.worker_requests import post


def test_metrics(scripted: ScriptedWorker) -> None:
    post(scripted.url, {"texts": ["a", "b"]})
    post(scripted.url, {})
    text = requests.get(scripted.url + "/metrics", timeout=5).text
    assert 'dormouse_answers_total{route="/embed",status="200"} 1.0' in text
    assert 'dormouse_answers_total{route="/embed",status="400"} 1.0' in text
    assert 'dormouse_items_total{lane="queries"} 2.0' in text and 'dormouse_queue_depth{lane="pages"} 0.0' in text
