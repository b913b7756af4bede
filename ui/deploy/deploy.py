"""`dormouse deploy` and `dormouse destroy`: from nothing to two servers and a page on Modal, and back.

The work is the client's own: `modal deploy FILE` and `modal app stop`, as anybody would run them.
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
from serving.cloud.credentials import ADMIN, API, PASSWORD, load_keys, save_keys
from serving.cloud.credentials import PROXY as PROXY_NAMES
from serving.cloud.modal_account import AccountError
from serving.settings import Settings
from ui.deploy.apps import NAMES, ROOT, App, Setup, describe_costs, list_apps, read_setup
from ui.deploy.preflight import Check, Outcome, find_hub_token, run_checks

KEY_BYTES = 32
PROXY = "dormouse"
"""The name of the proxy token that is made here."""


def make_parser(command: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"dormouse {command}", description=about)
    only = "one of the three; may be given again. Default: all"
    parser.add_argument("--only", choices=NAMES, action="append", help=only)
    return parser


def main(argv: Sequence[str]) -> int:
    """0; 1 with a sentence for what keeps it from being done; 130 for Ctrl-C."""
    parser = make_parser("deploy", "Deploys both servers of BiGemma3 and the page to Modal.")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--dry-run", action="store_true", help="say what it costs and which commands would run")
    parser.add_argument("--no-hub-check", action="store_true", help="do not ask the model hub about the licence")
    options = parser.parse_args(argv)
    stays = "what was deployed stays: `dormouse status` tells what is there"
    return report_errors(lambda: deploy(options), "not deployed", stays)


def report_errors(work: Callable[[], int], failed: str, stopped: str) -> int:
    """The exit code. Says in a sentence what kept it from being done, and what Ctrl-C leaves behind."""
    try:
        return work()
    except (AccountError, ValueError, OSError) as error:
        print(f"{failed}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; {stopped}", file=sys.stderr)
        return 130


def deploy(options: argparse.Namespace) -> int:
    of = read_setup()
    chosen = list_apps(of, options.only)
    if options.dry_run:
        print(describe_costs(chosen, of, prices.LISTED))
        print("\n".join(["Would run:", *(f"  {line}" for line in list_commands(chosen, of))]))
        return 0
    settings = Settings()
    found = run_checks(chosen, of, load_keys(settings.data, os.environ), os.environ, hub=not options.no_hub_check)
    print("\n".join(str(check) for check in found))
    if any(check.mark is Outcome.BAD for check in found):
        print("not deployed: see the lines with `no`", file=sys.stderr)
        return 1
    print(describe_costs(chosen, of, prices.fetch_rates_or_list()[0]))
    if not confirm(f"Deploy {', '.join(part.app for part in chosen)}?", options.yes, default=True):
        return 1
    make_secrets(found, of, settings)
    for part in chosen:
        if code := run_modal("deploy", part.file):
            print(f"not deployed: `modal deploy {part.file}` ended with exit code {code}, see above", file=sys.stderr)
            return 1
    print(describe_addresses(chosen))
    return 0


def list_commands(chosen: Sequence[App], of: Setup) -> list[str]:
    """The commands of a deployment where nothing is there yet."""
    lines = []
    if of.servers.secret_name and any(not part.page for part in chosen):
        values = f"HF_TOKEN=$HF_TOKEN DORMOUSE_API_KEYS=(new) {ADMIN}=(new)"
        lines.append(f"modal secret create {shlex.quote(of.servers.secret_name)} {values}   # unless it is there")
    if of.servers.access == "proxy":
        lines.append(f"modal workspace proxy-tokens create {PROXY}   # unless one is kept here")
    if any(part.page for part in chosen):
        values = " ".join(f"{name}=(new)" for name in (PASSWORD, API, ADMIN, *PROXY_NAMES))
        lines.append(f"modal secret create {shlex.quote(of.page.secret_name)} {values}   # unless it is there")
    return [*lines, *(f"modal deploy {part.file}" for part in chosen)]


def make_secrets(found: Sequence[Check], of: Setup, settings: Settings) -> None:
    """Secrets and the proxy token that are not there yet; their keys are kept here. Raises AccountError, OSError."""
    missing = {check.name for check in found if check.mark is Outcome.MAKE}
    access = load_keys(settings.data, os.environ)
    if "secret" in missing:
        api, admin = access.api or new_key(), access.admin or new_key()
        # Kept first: a key that is at Modal and nowhere else would be lost.
        path = save_keys(settings.data, {API: api, ADMIN: admin})
        modal_account.create_secret(
            of.servers.secret_name, {"HF_TOKEN": find_hub_token(), "DORMOUSE_API_KEYS": api, ADMIN: admin}
        )  # fmt: skip
        print(f"made the secret {of.servers.secret_name}; its keys are kept in {path}, for you alone")
    if "edge" in missing:
        path = save_keys(settings.data, dict(zip(PROXY_NAMES, modal_account.create_proxy_token(PROXY), strict=True)))
        print(f"made a proxy token; it is kept in {path}, for you alone")
    if "page secret" in missing:
        password = access.password or new_key()
        path = save_keys(settings.data, {PASSWORD: password})
        access = load_keys(settings.data, os.environ)
        token = zip(PROXY_NAMES, access.headers.values(), strict=False)
        values = {PASSWORD: password, API: access.api, ADMIN: access.admin, **dict(token)}
        modal_account.create_secret(of.page.secret_name, {name: value for name, value in values.items() if value})
        print(f"made the secret {of.page.secret_name}; user dormouse, {PASSWORD} is kept in {path}, for you alone")


def new_key() -> str:
    return secrets.token_urlsafe(KEY_BYTES)


def run_modal(*words: str) -> int:
    """The client's own command, with its output as it comes; its exit code."""
    print(f"$ modal {shlex.join(words)}", flush=True)
    command = [sys.executable, "-m", "modal", *words]
    return subprocess.run(command, cwd=ROOT, env=make_environment(os.environ), stdin=subprocess.DEVNULL).returncode  # noqa: S603


def make_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Our packages can be imported wherever the command was called from."""
    path = os.pathsep.join(part for part in (str(ROOT), environment.get("PYTHONPATH", "")) if part)
    return {**environment, "PYTHONPATH": path}


def describe_addresses(chosen: Sequence[App]) -> str:
    """Addresses, and what comes next."""
    lines = []
    for part in chosen:
        try:
            url = modal_account.ask_modal(part.function().get_web_url, part.missing) or "it has no address"
        except AccountError as error:
            url = str(error)
        lines.append(f"  {part.app:<22} {url}")
    servers = [part.name for part in chosen if not part.page]
    mode = {"hf": " --mode huggingface", "vllm": " --mode vllm"}[servers[0]] if len(servers) == 1 else ""
    if servers:
        lines.append(f"Next: `python -m bench prime{mode}`, which has their snapshots made")
    return "\n".join(["Deployed:", *lines])


def confirm(question: str, yes: bool, *, default: bool) -> bool:
    """Asks on a terminal; elsewhere only `--yes` agrees."""
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
    """0; 1 with a sentence for what keeps it from being done; 130 for Ctrl-C."""
    parser = make_parser("destroy", "Stops the apps on Modal, and what runs in them. What volumes hold stays.")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    lost = "also delete the volumes: weights, what was compiled, and all pages that were added"
    parser.add_argument("--volumes", action="store_true", help=lost)
    options = parser.parse_args(argv)
    return report_errors(lambda: destroy(options), "not destroyed", "`dormouse status` tells what is still there")


def destroy(options: argparse.Namespace) -> int:
    of = read_setup()
    there: list[App] = []
    for part in list_apps(of, options.only):
        try:
            held = len(modal_account.list_containers(modal_account.look_up_app(part.app, part.missing).app_id))
        except modal_account.NotFound:
            print(f"  {part.app:<22} is not deployed")
            continue
        print(f"  {part.app:<22} {held or 'no'} container{'' if held == 1 else 's'} running")
        there.append(part)
    doomed = [name for name in of.volumes if modal_account.has_volume(name)] if options.volumes else []
    if doomed:
        print(f"  volumes: {', '.join(doomed)}. Their pages and weights cannot be brought back")
    if not there and not doomed:
        print("nothing to stop")
        return 0
    what = [*(part.app for part in there), *(f"the volume {name}" for name in doomed)]
    if not confirm(f"Stop and delete for good: {', '.join(what)}?", options.yes, default=False):
        return 1
    for part in reversed(there):
        modal_account.run_command("app", "stop", part.app, "-y")
        print(f"stopped {part.app}")
    for name in doomed:
        modal_account.delete_volume(name)
        if name == of.page.volume:
            modal_account.delete_dict(of.claims)
        print(f"deleted the volume {name}")
    left = "" if options.volumes else "; volumes are kept (--volumes deletes them)"
    print(f"what was stopped costs nothing any more{left}")
    return 0
