"""The page on Modal with its collections in a real PostgreSQL: deployed by `dormouse deploy`, without a volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio_client
import pytest
import requests

from tests.modal.cloud import PROXY_TOKEN, Cloud
from tests.modal.hosted import ADMIN, ME, PAGE, WAIT_S, Hosted
from tests.modal.workspace import Workspace
from tests.support.postgres import PostgresServer
from tests.support.repository import SAMPLES
from ui.deploy import deploy, preflight

pytestmark = pytest.mark.timeout(400)
PASSWORD = "pa55word-of-the-store"
SECRET = "dormouse-page"
Output = pytest.CaptureFixture[str]


@pytest.fixture
def hosted(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    """A cloud that `dormouse deploy` of this process deploys to, with a proxy token that is known here."""
    found = Hosted(cloud, tmp_path)
    Workspace(cloud)
    environment = {
        **found.environment, "DORMOUSE_DATA": str(tmp_path), "DORMOUSE_PAGE_PASSWORD": ME[1],
        "DORMOUSE_MODAL_KEY": PROXY_TOKEN[0], "DORMOUSE_MODAL_SECRET": PROXY_TOKEN[1], "DORMOUSE_ADMIN_KEY": ADMIN,
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with cloud.client():
        yield found


@pytest.fixture
def address(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a user with a password and a schema. The containers of the local double do reach this machine."""
    monkeypatch.setattr(preflight, "is_out_of_reach", lambda address: False)
    schema = postgres.create_schema()
    postgres.run(f"DO $$ BEGIN CREATE ROLE clouds LOGIN PASSWORD '{PASSWORD}'; EXCEPTION WHEN OTHERS THEN END $$")
    postgres.run(f"GRANT ALL ON SCHEMA {schema} TO clouds")
    place = f"127.0.0.1:{postgres.port}/postgres?options=-csearch_path%3D{schema}%2Cpublic"
    return f"postgresql://clouds:{PASSWORD}@{place}"


def deploy_page(*words: str) -> int:
    return deploy.main(["--yes", "--no-hub-check", "--only", "page", *words])


def test_what_is_deployed_with_a_store(
    hosted: Hosted, address: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    cloud, folder = hosted.cloud, hosted.folder
    cloud.plane.watched = PASSWORD.encode()
    monkeypatch.setenv("DORMOUSE_STORE", address)
    assert deploy_page("--dry-run") == 0
    planned = capfd.readouterr().out
    assert "DORMOUSE_PAGE_USE_STORE=True modal deploy ui/app.py" in planned and PASSWORD not in planned
    assert deploy_page() == 0
    said = capfd.readouterr()
    assert "the store is PostgreSQL 18 with pgvector 0.8" in said.out and PASSWORD not in said.out + said.err
    assert cloud.secrets[SECRET]["DORMOUSE_STORE"] == address
    schema = address.rpartition("%3D")[2].removesuffix("%2Cpublic")
    assert (schema,) not in postgres.run("SELECT schemaname FROM pg_tables"), "it was only looked at"

    sent = cloud.function(PAGE, "Page.*")
    assert not sent.volume_mounts and "dormouse-pages" not in cloud.volumes and not cloud.dicts.entries
    assert sent.autoscaler_settings.max_containers == 1
    assert cloud.plane.told == {"SecretGetOrCreate"}, "no other request has it"
    assert not any(PASSWORD.encode() in content for content in cloud.uploaded(PAGE, "Page.*").values())
    assert not any(PASSWORD in str(image) for image in cloud.images)
    assert not any(PASSWORD.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())

    monkeypatch.delenv("DORMOUSE_STORE")
    assert deploy_page() == 0, "it keeps its store"
    said = capfd.readouterr()
    assert "the collections are in the store that the secret dormouse-page names" in said.out
    assert not cloud.function(PAGE, "Page.*").volume_mounts and cloud.secrets[SECRET]["DORMOUSE_STORE"] == address
    assert deploy_page("--store", "") == 1
    assert "run `modal secret delete dormouse-page`" in capfd.readouterr().out
    assert not cloud.past and not cloud.containers()


@pytest.mark.soak
def test_a_page_that_is_there_gets_a_store(hosted: Hosted, address: str, capfd: Output) -> None:
    hosted.deploy()
    keys = dict(hosted.cloud.secrets[SECRET])
    assert deploy_page("--store", address) == 0
    said = capfd.readouterr()
    assert "the address of the store is in the secret dormouse-page" in said.out and PASSWORD not in said.out + said.err
    assert hosted.cloud.secrets[SECRET] == {**keys, "DORMOUSE_STORE": address}, "its keys are the same"
    assert not hosted.cloud.function(PAGE, "Page.*").volume_mounts


def test_what_cannot_be_a_store_is_refused_before_anything_is_made(
    hosted: Hosted, address: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    cloud = hosted.cloud

    def refuse(store: str) -> str:
        assert deploy_page("--store", store) == 1
        said = capfd.readouterr()
        assert not cloud.secrets and not cloud.apps() and PASSWORD not in said.out + said.err
        return said.out

    assert "cannot be opened" in refuse(address.replace(PASSWORD, "wrong"))
    assert "cannot be opened" in refuse(f"postgresql://clouds:{PASSWORD}@127.0.0.1:1/postgres")
    assert "a store is an address like postgresql://user@host/database" in refuse(f"mysql://u:{PASSWORD}@h/d")
    schema = postgres.create_schema()
    elsewhere = address.rpartition("%3D")[0] + f"%3D{schema}%2Cpublic"
    assert "permission denied for schema" in refuse(elsewhere)
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    try:
        postgres.run("CREATE EXTENSION vector", "latin")
        assert "LATIN1: make one with ENCODING 'UTF8'" in refuse(address.replace("/postgres?", "/latin?"))
    finally:
        postgres.run("DROP DATABASE latin WITH (FORCE)")
    monkeypatch.undo()
    monkeypatch.setenv("DORMOUSE_DATA", str(hosted.folder))
    for host in ("localhost", "127.0.0.1", "[::1]", "", "%2Fvar%2Frun", "db.example.org,127.0.0.1"):
        found = preflight.check_address(f"postgresql://u:{PASSWORD}@{host}/d", SECRET)
        assert found.mark is preflight.Outcome.BAD and "on this machine" in found.text
    assert not preflight.is_out_of_reach("postgresql://u@db.example.org/d")


@pytest.mark.long
@pytest.mark.soak
def test_pages_are_in_the_store_whichever_container_or_app_shows_them(
    hosted: Hosted, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = hosted.cloud
    hosted.deploy_server()
    monkeypatch.setenv("DORMOUSE_STORE", address)
    assert deploy_page() == 0
    names = "receipt-corner-larder.jpg", "chart-honey-harvest.png"
    added = hosted.call("add_pages", [gradio_client.handle_file(SAMPLES / name) for name in names], "kept")["added"]
    assert len(added) == 2, hosted.logs()
    hosted.kill()
    hits = hosted.call("search", "receipt", None, "kept", 3)["hits"]
    assert {hit["id"] for hit in hits} == {page["id"] for page in added}
    assert hosted.get(f"/pages/{added[0]['id']}.webp").status_code == 200
    assert [each.kind for each in cloud.containers(PAGE)] == ["restored"]

    monkeypatch.setenv("DORMOUSE_PAGE_APP", "dormouse-two")
    monkeypatch.setenv("DORMOUSE_PAGE_DATA", str(hosted.folder / "second"))
    assert deploy_page() == 0
    picture = f"{cloud.web_url('dormouse-two')}/pages/{added[1]['id']}.jpg"
    assert requests.get(picture, auth=ME, timeout=WAIT_S).content.startswith(b"\xff\xd8\xff")
    assert len(cloud.containers(PAGE)) == len(cloud.containers("dormouse-two")) == 1, "both at once"
    assert hosted.call("delete_pages", "kept", [added[1]["id"]])["deleted"] == [added[1]["id"]]
    assert requests.get(picture, auth=ME, timeout=WAIT_S).status_code == 404

    assert (
        PASSWORD not in hosted.logs() and "dormouse-pages" not in cloud.volumes and not cloud.commits["dormouse-pages"]
    )
    inside = [path for name in ("disk", "second") for path in (hosted.folder / name).rglob("*") if path.is_file()]
    assert inside and not any(PASSWORD.encode() in path.read_bytes() for path in inside)
