"""`dormouse status`: what is deployed on Modal, what runs there now and what it has cost. It starts nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from serving.cloud import modal_account
from serving.cloud.modal_account import AccountError, NotFound, ask_modal
from ui.components.wording import format_age, format_count
from ui.deploy.apps import App, list_apps, read_setup


@dataclass
class AppStatus:
    """An app as Modal reports it; None where Modal did not say."""

    app: str
    deployed: bool
    url: str = ""
    version: int = 0
    age_s: float | None = None
    """Since it was deployed."""
    containers: int | None = None
    """They start, serve or idle."""
    window_s: int | None = None
    cost: float | None = None
    """Dollars this month, up to the last full hour."""
    note: str = ""


def main(argv: Sequence[str]) -> int:
    """Print the status and return the exit code: 1 if Modal cannot be asked, 130 for Ctrl-C."""
    about = "Shows what is deployed on Modal. It starts nothing."
    parser = argparse.ArgumentParser(prog="dormouse status", description=about)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    options = parser.parse_args(argv)
    now = datetime.now(UTC)
    try:
        workspace = modal_account.read_workspace_name()
        rows, bill = read_statuses(list_apps(read_setup()), now)
    except AccountError as error:
        print(f"no status: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps({"workspace": workspace, "apps": [asdict(row) for row in rows], "bill": bill}, indent=1))
    else:
        costs = [f"costs are not known: {bill}"] if bill else []
        print("\n".join([f"workspace {workspace}", *map(format_status, rows), *costs]))
    return 0


def read_statuses(chosen: Sequence[App], now: datetime) -> tuple[list[AppStatus], str]:
    """Return the apps, and why their costs are not known; empty if they are.

    What an app's function does not tell stays unknown, with a note. Raises AccountError if Modal cannot be asked.
    """
    rows, ids = [], {}
    for app in chosen:
        try:
            found = modal_account.look_up_app(app.name, app.advice)
        except NotFound as error:
            rows.append(AppStatus(app.name, False, note=str(error)))
            continue
        age = now.timestamp() - found.deployed_at if found.deployed_at else None
        row = AppStatus(app.name, True, version=found.version, age_s=age)
        rows.append(row)
        ids[app.name] = found.app_id
        try:
            function = app.look_up_function()
            row.url = ask_modal(function.get_web_url) or ""
            row.containers = int(ask_modal(function.get_current_stats).num_total_runners)
            row.window_s = ask_modal(function.autoscaler.settings).scaledown_window
        except AccountError as error:
            row.note = str(error)
    try:
        costs = modal_account.read_spending(ids, now) if ids else {}
    except AccountError as error:
        return rows, str(error)
    for row in rows:
        row.cost = float(costs[row.app]) if row.app in costs else None
    return rows, ""


def format_status(row: AppStatus) -> str:
    if not row.deployed:
        return f"{row.app:<22} {row.note.removeprefix(row.app + ' is ')}"
    containers = "at zero" if row.containers == 0 else format_count(row.containers or 0, "container")
    facts = [
        f"v{row.version}" if row.version else "deployed",
        "" if row.age_s is None else format_age(row.age_s),
        "containers unknown" if row.containers is None else containers,
        "" if row.window_s is None else f"window {row.window_s} s",
        "" if row.cost is None else f"${row.cost:.2f} this month",
        row.url,
        row.note,
    ]
    return f"{row.app:<22} {', '.join(text for text in facts if text)}"
