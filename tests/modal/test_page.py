"""The page on Modal, and a server that it finds there: deployed by the real client, run by Modal's own entrypoint.

The built-in embedder stands in the server's place of BiGemma3, by a deployment's own setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio_client
import pytest
import requests
from grpclib.const import Status
from playwright.sync_api import Browser, expect

from bench.speed.browser import launch_browser
from tests.browser.visit import Visit
from tests.modal.cloud import Cloud
from tests.modal.hosted import ADMIN, ME, PAGE, SERVER, WAIT_S, Hosted
from tests.support.repository import SAMPLES

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with launch_browser() as found:
        yield found


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with Cloud() as cloud:
        found = Hosted(cloud, tmp_path_factory.mktemp("hosted"))
        found.deploy()
        yield found


@pytest.mark.soak
def test_without_a_password_there_is_no_deployment(tmp_path: Path) -> None:
    with Cloud() as cloud:
        cloud.secrets["dormouse-page"] = {"DORMOUSE_ADMIN_KEY": ADMIN}
        done = cloud.deploy("ui/app.py", env=Hosted(cloud, tmp_path).environment)
        assert done.returncode != 0 and "DORMOUSE_PAGE_PASSWORD" in done.stdout + done.stderr


def test_what_is_deployed(hosted: Hosted) -> None:
    sent = hosted.cloud.function(PAGE, "Page.*")
    assert sent.checkpointing_enabled and not sent.resources.gpu_config.gpu_type
    scaling = sent.autoscaler_settings
    assert (scaling.max_containers, scaling.scaledown_window, sent.max_concurrent_inputs) == (1, 300, 100)
    assert [hosted.cloud.registry.volumes[mount.volume_id] for mount in sent.volume_mounts] == ["dormouse-pages"]
    assert not sent.method_definitions["web"].webhook_config.requires_proxy_auth  # browsers cannot send its headers
    files = hosted.cloud.uploaded(PAGE, "Page.*")
    for name in (
        "ui/static/status.js", "ui/components/templates/notice.html", "bench/templates/report.html", "assets/style.css",
        "assets/samples/queries.json", "serving/library/library.py",
    ):  # fmt: skip
        assert f"/root/{name}" in files
    assert not any("screenshots" in name or "__pycache__" in name for name in files)
    assert sum(map(len, files.values())) < 10_000_000


def test_page_comes_up_and_comes_back(hosted: Hosted) -> None:
    assert requests.get(hosted.url, timeout=WAIT_S).status_code == 401
    answer = hosted.get()
    assert answer.status_code == 200 and "Dormouse" in answer.text, hosted.logs()
    assert hosted.get("/theme.css").status_code == 200
    elsewhere = requests.get(hosted.url, auth=ME, headers={"Host": "page.example.org"}, timeout=WAIT_S)
    assert elsewhere.status_code == 421
    hosted.kill()
    assert hosted.get().status_code == 200, hosted.logs()
    assert [each.kind for each in hosted.cloud.containers(PAGE)] == ["restored"]


@pytest.mark.soak
def test_server_that_is_not_deployed_is_told_with_the_command(hosted: Hosted) -> None:
    with pytest.raises(gradio_client.exceptions.AppError, match="modal deploy serving/serve_vllm_snapshot"):
        hosted.call("search", "words", None, "c", 3, None, "vLLM")


@pytest.mark.soak
def test_pages_are_there_after_a_kill(hosted: Hosted) -> None:
    hosted.deploy_server()
    files = [
        gradio_client.handle_file(SAMPLES / name) for name in ("receipt-corner-larder.jpg", "chart-honey-harvest.png")
    ]
    commits = hosted.cloud.commits["dormouse-pages"]
    added = hosted.call("add_pages", files, "kept")["added"]
    assert len(added) == 2 and hosted.cloud.commits["dormouse-pages"] > commits
    hosted.kill()
    hits = hosted.call("search", "receipt", None, "kept", 3)["hits"]
    assert {hit["id"] for hit in hits} == {page["id"] for page in added}
    assert hosted.get(f"/pages/{added[0]['id']}.webp").status_code == 200


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Hosted]:
    """The page by `modal serve`, as while it is worked on."""
    with Cloud() as cloud:
        found = Hosted(cloud, tmp_path)
        found.add_secret()
        running = cloud.serve("ui/app.py", env=found.environment)
        assert found.get().status_code == 200, running.output + found.logs()
        yield found


@pytest.mark.soak
def test_person_uploads_searches_and_sees_a_restored_start(served: Hosted, browser: Browser) -> None:
    """All of it in a browser: a page is dropped in and found, the server is brought to zero, and comes back. The page
    has no snapshot, as `modal serve` makes none; the server, which was deployed, has one."""
    served.deploy_server()
    context = browser.new_context(http_credentials={"username": ME[0], "password": ME[1]})
    visit = Visit(context, served.url)
    page = visit.open(f"{served.url}/?c=mine")
    page.set_default_timeout(1000 * WAIT_S)
    page.locator("#dropzone input[type=file]").set_input_files(SAMPLES / "receipt-corner-larder.jpg")
    expect(page.locator("#files")).to_contain_text("receipt-corner-larder.jpg", timeout=1000 * WAIT_S)
    page.locator("#ask textarea").fill("corner larder")
    page.locator("#ask textarea").press("Enter")
    expect(page.locator(".hit")).to_have_count(1, timeout=1000 * WAIT_S)
    expect(page.locator('.engine[data-state="serving"]')).to_be_visible()
    page.get_by_role("tab", name="Cold starts").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#scaledown").click()
    expect(page.locator('.engine[data-state="zero"]')).to_be_visible(timeout=1000 * WAIT_S)
    served.cloud.until(lambda: not served.cloud.containers(SERVER), served.logs)
    page.get_by_role("tab", name="Search").click()
    page.locator("#ask textarea").press("Enter")
    expect(page.locator('.engine[data-state="serving"]')).to_be_visible(timeout=1000 * WAIT_S)
    page.locator(".engine > summary").click()
    expect(page.locator(".engine-panel")).to_contain_text("restored")
    expect(page.locator(".engine-panel")).to_contain_text("wait for Modal")
    assert visit.outside == []
    context.close()
    assert [each.kind for each in served.cloud.containers(PAGE)] == ["plain"]
    assert [each.kind for each in served.cloud.containers(SERVER)] == ["restored"]


@pytest.mark.soak
def test_volume_that_is_gone_is_shown_and_nothing_is_acknowledged(hosted: Hosted, browser: Browser) -> None:
    if SERVER not in hosted.cloud.apps():
        hosted.deploy_server()
    context = browser.new_context(http_credentials={"username": ME[0], "password": ME[1]})
    page = Visit(context, hosted.url).open(f"{hosted.url}/?c=gone")
    page.set_default_timeout(1000 * WAIT_S)
    dropped = page.locator("#dropzone input[type=file]")
    dropped.set_input_files(SAMPLES / "receipt-corner-larder.jpg")
    expect(page.locator("#files")).to_contain_text("receipt-corner-larder.jpg", timeout=1000 * WAIT_S)
    hosted.cloud.fail("VolumeCommit", Status.NOT_FOUND, "Volume not found")
    try:
        dropped.set_input_files(SAMPLES / "chart-honey-harvest.png")
        expect(page.locator("#progress")).to_contain_text("could not be saved on the volume", timeout=1000 * WAIT_S)
        expect(page.locator("#files")).not_to_contain_text("chart-honey-harvest.png")
        page.locator("#files details.files > summary").click()
        page.locator("#files .confirm > summary").first.click()
        page.locator("#files [data-file]").click()
        expect(page.locator("#summary")).to_contain_text("The deletion was not saved", timeout=1000 * WAIT_S)
    finally:
        hosted.cloud.mend("VolumeCommit")
        context.close()
    assert hosted.call("search", "honey", None, "gone", 9)["hits"] == []


@pytest.mark.soak
def test_new_release_takes_over(hosted: Hosted) -> None:
    if SERVER not in hosted.cloud.apps():
        hosted.deploy_server()
    file = gradio_client.handle_file(SAMPLES / "chart-honey-harvest.png")
    (added,) = hosted.call("add_pages", [file], "release")["added"]
    claimed = sum(len(entries) for entries in hosted.cloud.dicts.entries.values())
    hosted.deploy()
    hosted.new_disk()
    hits = hosted.call("search", "honey", None, "release", 9)["hits"]
    assert [hit["id"] for hit in hits] == [added["id"]]
    assert sum(len(entries) for entries in hosted.cloud.dicts.entries.values()) == claimed + 1
