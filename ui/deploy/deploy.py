"""`dormouse deploy` and `dormouse destroy`: from nothing to two servers and a page on Modal, and back.

Both run commands of Modal's client, `modal deploy FILE` and `modal app stop`, as anybody would.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from bench.cost import prices
from serving.cloud import modal_account
from serving.cloud.credentials import ADMIN, API, PASSWORD, STORE, load_keys, save_keys
from serving.cloud.credentials import PROXY as PROXY_NAMES
from serving.cloud.modal_account import AccountError
from serving.settings import Settings
from ui.deploy.apps import NAMES, ROOT, App, Setup, describe_costs, list_apps, read_setup
from ui.deploy.preflight import Check, Outcome, find_hub_token, run_checks
from ui.servers.container_limit import put_back_left

USE_STORE = {"DORMOUSE_PAGE_USE_STORE": "True"}
PROXY = "dormouse"
"""The name of the proxy token that is created here."""


def make_parser(command: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"dormouse {command}", description=about)
    parser.add_argument("--only", choices=NAMES, action="append", help="only this one; can be repeated. Default: all")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def main(argv: Sequence[str]) -> int:
    """Deploy and return the exit code: 1 with a sentence for what prevents it, 130 for Ctrl-C."""
    parser = make_parser("deploy", "Deploys both servers of BiGemma3 and the page to Modal.")
    parser.add_argument("--dry-run", action="store_true", help="only print what it costs and which commands would run")
    parser.add_argument(
        "--store",
        metavar="URL",
        help="keep the page's collections in a PostgreSQL with pgvector that Modal reaches, instead of on its volume:"
        f" postgresql://user@host/database; default: {STORE}, where a password belongs; --store '' is the volume",
    )
    parser.add_argument("--no-hub-check", action="store_true", help="do not ask the model hub about the licence")
    options = parser.parse_args(argv)
    if options.store and options.only and "page" not in options.only:
        parser.error("--store is for the page: add --only page")
    stays = "what was deployed stays: `dormouse status` shows it"
    return report_errors(lambda: deploy(options), "not deployed", stays)


def report_errors(work: Callable[[], int], failed: str, stopped: str) -> int:
    """Return the exit code of `work`, and print why it failed, or what Ctrl-C leaves behind."""
    try:
        return work()
    except (AccountError, ValueError, OSError) as error:
        print(f"{failed}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; {stopped}", file=sys.stderr)
        return 130


def deploy(options: argparse.Namespace) -> int:
    setup = read_setup()
    chosen = list_apps(setup, options.only)
    settings = Settings()
    store = settings.store.get_secret_value() or None if options.store is None else str(options.store)
    if options.dry_run:
        print(describe_costs(chosen, setup, prices.LISTED))
        lines = list_commands(chosen, setup, stored=bool(store) or setup.page.use_store)
        print("\n".join(["Would run:", *(f"  {line}" for line in lines)]))
        return 0
    keys = load_keys(settings.data, os.environ)
    found = run_checks(chosen, setup, keys, os.environ, store=store, hub=not options.no_hub_check)
    print("\n".join(str(check) for check in found))
    if any(check.mark is Outcome.BAD for check in found):
        print("not deployed: see the lines with `no`", file=sys.stderr)
        return 1
    print(describe_costs(chosen, setup, prices.fetch_rates_or_list()[0]))
    if not confirm(f"Deploy {', '.join(app.name for app in chosen)}?", options.yes, default=True):
        return 1
    put_back_left(settings.data, print)
    make_secrets(found, setup, settings, store or "")
    stored = any(check.name == "store" for check in found)
    for app in chosen:
        if code := run_modal("deploy", app.file, environment=USE_STORE if app.is_page and stored else {}):
            print(f"not deployed: `modal deploy {app.file}` ended with exit code {code}, see above", file=sys.stderr)
            return 1
    print(describe_addresses(chosen))
    return 0


def list_commands(chosen: Sequence[App], setup: Setup, *, stored: bool = False) -> list[str]:
    """Return the commands of a first deployment. `stored`: the page's collections are in a store."""
    lines = []
    if setup.servers.secret_name and any(not app.is_page for app in chosen):
        values = f"HF_TOKEN=$HF_TOKEN DORMOUSE_API_KEYS=(new) {ADMIN}=(new)"
        lines.append(f"modal secret create {shlex.quote(setup.servers.secret_name)} {values}   # unless it exists")
    if setup.servers.access == "proxy":
        lines.append(f"modal workspace proxy-tokens create {PROXY}   # unless this machine has one")
    if any(app.is_page for app in chosen):
        values = " ".join(f"{name}=(new)" for name in (PASSWORD, API, ADMIN, *PROXY_NAMES))
        values += f" {STORE}=${STORE}" if stored else ""
        lines.append(f"modal secret create {shlex.quote(setup.page.secret_name)} {values}   # unless it exists")
    given = "".join(f"{name}={value} " for name, value in USE_STORE.items()) if stored else ""
    return [*lines, *(f"{given if app.is_page else ''}modal deploy {app.file}" for app in chosen)]


def make_secrets(found: Sequence[Check], setup: Setup, settings: Settings, store: str) -> None:
    """Create the missing secrets and proxy token, and save their keys here. Raises AccountError, OSError.

    `store`: an address for the page's secret, new or not; it is saved nowhere else.
    """
    missing = {check.name for check in found if check.mark is Outcome.MAKE}
    access = load_keys(settings.data, os.environ)
    if "secret" in missing:
        api, admin = access.api or secrets.token_urlsafe(), access.admin or secrets.token_urlsafe()
        # Saved first: a key that only Modal has would be lost.
        path = save_keys(settings.data, {API: api, ADMIN: admin})
        modal_account.create_secret(
            setup.servers.secret_name, {"HF_TOKEN": find_hub_token(), "DORMOUSE_API_KEYS": api, ADMIN: admin}
        )
        print(f"created the secret {setup.servers.secret_name}; its keys are saved in {path}, which only you can read")
    if "edge" in missing:
        path = save_keys(settings.data, dict(zip(PROXY_NAMES, modal_account.create_proxy_token(PROXY), strict=True)))
        print(f"created a proxy token; it is saved in {path}, which only you can read")
    address = {STORE: store} if store and any(check.name == "store" for check in found) else {}
    if "page secret" in missing:
        password = access.password or secrets.token_urlsafe()
        path = save_keys(settings.data, {PASSWORD: password})
        access = load_keys(settings.data, os.environ)
        token = zip(PROXY_NAMES, access.headers.values(), strict=False)
        values = {PASSWORD: password, API: access.api, ADMIN: access.admin, **dict(token), **address}
        modal_account.create_secret(setup.page.secret_name, {name: value for name, value in values.items() if value})
        where = f"user dormouse, {PASSWORD} is saved in {path}, which only you can read"
        print(f"created the secret {setup.page.secret_name}; {where}")
    elif address:
        modal_account.update_secret(setup.page.secret_name, address)
        print(f"the address of the store is in the secret {setup.page.secret_name}")


def run_modal(*words: str, environment: Mapping[str, str]) -> int:
    """Run a command of Modal's client, whose output is shown as it comes, and return its exit code.

    It has this environment, with more in it, but not the address of a store.
    """
    print(f"$ modal {shlex.join(words)}", flush=True)
    # It imports our packages, from wherever this command was called.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "modal", *words]
    given = {name: value for name, value in os.environ.items() if name.upper() != STORE}
    given |= {"PYTHONPATH": path, **environment}
    done = subprocess.run(command, cwd=ROOT, env=given, stdin=subprocess.DEVNULL)  # noqa: S603
    return done.returncode


def describe_addresses(chosen: Sequence[App]) -> str:
    """Return the addresses, and what to do next."""
    lines = []
    for app in chosen:
        try:
            url = modal_account.ask_modal(app.look_up_function().get_web_url, app.advice) or "it has no address"
        except AccountError as error:
            url = str(error)
        lines.append(f"  {app.name:<22} {url}")
    servers = [app.kind for app in chosen if not app.is_page]
    mode = {"hf": " --mode huggingface", "vllm": " --mode vllm"}[servers[0]] if len(servers) == 1 else ""
    if servers:
        lines.append(f"Next: `python -m bench prime{mode}`, which creates their snapshots")
    return "\n".join(["Deployed:", *lines])


def confirm(question: str, yes: bool, *, default: bool) -> bool:
    """Ask on a terminal; elsewhere only `--yes` agrees."""
    if yes:
        return True
    if not sys.stdin.isatty():
        print(f"{question} Nobody can be asked here: add --yes", file=sys.stderr)
        return False
    try:
        said = input(f"{question} [{'Y/n' if default else 'y/N'}] ").strip().lower()
    except EOFError:
        return False
    return default if not said else said in ("y", "yes")


def destroy_main(argv: Sequence[str]) -> int:
    """Destroy and return the exit code: 1 with a sentence for what prevents it, 130 for Ctrl-C."""
    parser = make_parser("destroy", "Stops and deletes the apps on Modal. Their volumes are kept.")
    lost = "also delete the volumes: weights, compiled kernels, and all pages that were added"
    parser.add_argument("--volumes", action="store_true", help=lost)
    options = parser.parse_args(argv)
    return report_errors(lambda: destroy(options), "not destroyed", "`dormouse status` shows what is still there")


def destroy(options: argparse.Namespace) -> int:
    setup = read_setup()
    found: list[App] = []
    for app in list_apps(setup, options.only):
        try:
            running = len(modal_account.list_containers(modal_account.look_up_app(app.name, app.advice).app_id))
        except modal_account.NotFound:
            print(f"  {app.name:<22} is not deployed")
            continue
        print(f"  {app.name:<22} {running or 'no'} container{'' if running == 1 else 's'} running")
        found.append(app)
    volumes = setup.servers.weights_volume, setup.servers.compiled_volume, setup.page.volume
    to_delete = [name for name in volumes if modal_account.has_volume(name)] if options.volumes else []
    if to_delete:
        print(f"  volumes: {', '.join(to_delete)}. Their pages and weights cannot be restored")
    if not found and not to_delete:
        print("nothing to stop")
        return 0
    what = [*(app.name for app in found), *(f"the volume {name}" for name in to_delete)]
    if not confirm(f"Stop and delete for good: {', '.join(what)}?", options.yes, default=False):
        return 1
    for app in reversed(found):
        modal_account.run_command("app", "stop", app.name, "-y")
        print(f"stopped {app.name}")
    for name in to_delete:
        modal_account.delete_object("Volume", name)
        if name == setup.page.volume:
            modal_account.delete_object("Dict", setup.page.claims)
        print(f"deleted the volume {name}")
    left = "" if options.volumes else "; volumes are kept (--volumes deletes them)"
    print(f"what was stopped no longer costs anything{left}")
    return 0
