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
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench import account, prices
from bench.account import AccountError
from bench.keys import Keys, keep, keys
from serving.settings import Settings
from ui.parts import PARTS, ROOT, Part, chosen, costs, deployment
from ui.preflight import Check, Mark, checks, hub_token

if TYPE_CHECKING:
    from serving.modal_app import Deployment

KEY_BYTES = 32
PROXY = "dormouse"
"""The name of the proxy token that is made here."""


def arguments(command: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"dormouse {command}", description=about)
    only = "one of the three; may be given again. Default: all"
    parser.add_argument("--only", choices=[part.name for part in PARTS], action="append", help=only)
    return parser


def main(argv: Sequence[str]) -> int:
    """0; 1 with a sentence for what keeps it from being done; 130 for Ctrl-C."""
    parser = arguments("deploy", "Deploys both servers of BiGemma3 and the page to Modal.")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--dry-run", action="store_true", help="say what it costs and which commands would run")
    parser.add_argument("--no-hub-check", action="store_true", help="do not ask the model hub about the licence")
    options = parser.parse_args(argv)
    try:
        return deploy(options)
    except (AccountError, ValueError, OSError) as error:
        print(f"not deployed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was deployed stays: `dormouse status` tells what is there", file=sys.stderr)
        return 130


def deploy(options: argparse.Namespace) -> int:
    parts = chosen(options.only)
    servers = deployment()
    if options.dry_run:
        print(costs(parts, servers, prices.LISTED))
        print("\n".join(["Would run:", *(f"  {line}" for line in planned(parts, servers))]))
        return 0
    settings = Settings()
    access = keys(settings.data, os.environ)
    found = checks(servers, access, os.environ, hub=not options.no_hub_check)
    print("\n".join(str(check) for check in found))
    if any(check.mark is Mark.BAD for check in found):
        print("not deployed: see the lines with `no`", file=sys.stderr)
        return 1
    print(costs(parts, servers, prices.rates_now()[0]))
    if not agreed(f"Deploy {', '.join(part.app for part in parts)}?", options.yes, default=True):
        return 1
    make(found, servers, settings, access)
    for part in parts:
        if code := run_modal("deploy", part.file):
            print(f"not deployed: `modal deploy {part.file}` ended with exit code {code}, see above", file=sys.stderr)
            return 1
    print(after(parts))
    return 0


def planned(parts: Sequence[Part], servers: Deployment) -> list[str]:
    """The commands of a deployment where nothing is there yet."""
    lines = []
    if servers.secret_name:
        values = "HF_TOKEN=$HF_TOKEN DORMOUSE_API_KEYS=(new) DORMOUSE_ADMIN_KEY=(new)"
        lines.append(f"modal secret create {shlex.quote(servers.secret_name)} {values}   # unless it is there")
    if servers.access == "proxy":
        lines.append(f"modal workspace proxy-tokens create {PROXY}   # unless one is kept here")
    return [*lines, *(f"modal deploy {part.file}" for part in parts)]


def make(found: Sequence[Check], servers: Deployment, settings: Settings, access: Keys) -> None:
    """The secret and the proxy token that are not there yet; their keys are kept here. Raises AccountError, OSError."""
    missing = {check.name for check in found if check.mark is Mark.MAKE}
    if "secret" in missing:
        api, admin = access.api or new_key(), access.admin or new_key()
        # Kept first: a key that is at Modal and nowhere else would be lost.
        path = keep(settings.data, {"DORMOUSE_WORKER_KEY": api, "DORMOUSE_ADMIN_KEY": admin})
        values = {"HF_TOKEN": hub_token(), "DORMOUSE_API_KEYS": api, "DORMOUSE_ADMIN_KEY": admin}
        account.make_secret(servers.secret_name, values)
        print(f"made the secret {servers.secret_name}; its API key and admin key are kept in {path}, for you alone")
    if "edge" in missing:
        key, secret = account.make_proxy_token(PROXY)
        path = keep(settings.data, {"DORMOUSE_MODAL_KEY": key, "DORMOUSE_MODAL_SECRET": secret})
        print(f"made a proxy token; it is kept in {path}, for you alone")


def new_key() -> str:
    return secrets.token_urlsafe(KEY_BYTES)


def run_modal(*words: str) -> int:
    """The client's own command, with its output as it comes; its exit code."""
    print(f"$ modal {shlex.join(words)}", flush=True)
    command = [sys.executable, "-m", "modal", *words]
    return subprocess.run(command, cwd=ROOT, env=shell(os.environ), stdin=subprocess.DEVNULL).returncode  # noqa: S603


def shell(environment: Mapping[str, str]) -> dict[str, str]:
    """Our packages can be imported wherever the command was called from."""
    path = os.pathsep.join(part for part in (str(ROOT), environment.get("PYTHONPATH", "")) if part)
    return {**environment, "PYTHONPATH": path}


def after(parts: Sequence[Part]) -> str:
    """Addresses, and what comes next."""
    lines = []
    for part in parts:
        try:
            url = account.asked(part.function().get_web_url, part.missing) or "it has no address"
        except AccountError as error:
            url = str(error)
        lines.append(f"  {part.app:<22} {url}")
    servers = [part.name for part in parts if not part.page]
    mode = {"hf": " --mode huggingface", "vllm": " --mode vllm"}[servers[0]] if len(servers) == 1 else ""
    if servers:
        lines.append(f"Next: `python -m bench prime{mode}`, which has their snapshots made")
    return "\n".join(["Deployed, and at zero:", *lines])


def agreed(question: str, yes: bool, *, default: bool) -> bool:
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
    parser = arguments("destroy", "Stops the apps on Modal, and what runs in them. What volumes hold stays.")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    lost = "also delete the volumes: weights, what was compiled, and all pages that were added"
    parser.add_argument("--volumes", action="store_true", help=lost)
    options = parser.parse_args(argv)
    try:
        return destroy(options)
    except (AccountError, ValueError, OSError) as error:
        print(f"not destroyed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; `dormouse status` tells what is still there", file=sys.stderr)
        return 130


def destroy(options: argparse.Namespace) -> int:
    servers = deployment()
    there: list[Part] = []
    for part in chosen(options.only):
        try:
            held = len(account.containers(account.app(part.app, part.missing).app_id))
        except account.NotFound:
            print(f"  {part.app:<22} is not deployed")
            continue
        print(f"  {part.app:<22} {held or 'no'} container{'' if held == 1 else 's'} running")
        there.append(part)
    doomed = [name for name in volumes(servers) if account.has_volume(name)] if options.volumes else []
    if doomed:
        print(f"  volumes: {', '.join(doomed)}. Their pages and weights cannot be brought back")
    if not there and not doomed:
        print("nothing to stop")
        return 0
    what = [*(part.app for part in there), *(f"the volume {name}" for name in doomed)]
    if not agreed(f"Stop and delete for good: {', '.join(what)}?", options.yes, default=False):
        return 1
    for part in reversed(there):
        account.command("app", "stop", part.app, "-y")
        print(f"stopped {part.app}")
    for name in doomed:
        account.delete_volume(name)
        print(f"deleted the volume {name}")
    left = "" if options.volumes else "; volumes are kept (--volumes deletes them)"
    print(f"what was stopped costs nothing any more{left}")
    return 0


def volumes(servers: Deployment) -> tuple[str, ...]:
    return servers.weights_volume, servers.compiled_volume, PAGES_VOLUME


PAGES_VOLUME = "dormouse-pages"
