"""`dormouse status`: what of Dormouse is on Modal, what runs there now, and what it has cost. Wakes nobody."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from serving.cloud import modal_account
from serving.cloud.modal_account import AccountError, NotFound, ask_modal
from ui.deploy.apps import App, list_apps, read_setup


@dataclass
class AppStatus:
    app: str
    deployed: bool
    url: str = ""
    version: int = 0
    age_s: float | None = None
    """Since it was deployed."""
    containers: int | None = None
    """That start, serve or idle; None if Modal did not say."""
    window_s: int | None = None
    cost: float | None = None
    """Dollars this month, up to the last full hour."""
    note: str = ""


def main(argv: Sequence[str]) -> int:
    """0; 1 if Modal cannot be asked; 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="dormouse status", description="What is on Modal. It wakes nobody.")
    parser.add_argument("--json", action="store_true", help="for programs")
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
        print(
            "\n".join(
                [
                    f"workspace {workspace}",
                    *map(format_status, rows),
                    *([f"costs are not told: {bill}"] if bill else []),
                ]
            )
        )
    return 0


def read_statuses(chosen: Sequence[App], now: datetime) -> tuple[list[AppStatus], str]:
    """And why there are no costs; empty if there are. Raises AccountError if Modal cannot be asked at all."""
    rows, ids = [], {}
    for part in chosen:
        try:
            found = modal_account.look_up_app(part.app, part.missing)
        except NotFound as error:
            rows.append(AppStatus(part.app, False, note=str(error)))
            continue
        age = now.timestamp() - found.deployed_at if found.deployed_at else None
        row = AppStatus(part.app, True, version=found.version, age_s=age)
        read_live_state(row, part)
        rows.append(row)
        ids[part.app] = found.app_id
    try:
        costs = modal_account.read_spending(ids, now) if ids else {}
    except AccountError as error:
        return rows, str(error)
    for row in rows:
        row.cost = float(costs[row.app]) if row.app in costs else None
    return rows, ""


def read_live_state(row: AppStatus, part: App) -> None:
    """Of an app that is there; what its function does not tell stays unknown, with a note."""
    try:
        function = part.function()
        row.url = ask_modal(function.get_web_url) or ""
        row.containers = int(ask_modal(function.get_current_stats).num_total_runners)
        row.window_s = ask_modal(function.autoscaler.settings).scaledown_window
    except AccountError as error:
        row.note = str(error)


def format_status(row: AppStatus) -> str:
    if not row.deployed:
        return f"{row.app:<22} {row.note.removeprefix(row.app + ' is ')}"
    held = {None: "containers unknown", 0: "at zero", 1: "1 container"}.get(
        row.containers, f"{row.containers} containers"
    )
    told = [
        f"v{row.version}" if row.version else "deployed",
        "" if row.age_s is None else f"{ago(row.age_s)} ago",
        held,
        "" if row.window_s is None else f"window {row.window_s} s",
        "" if row.cost is None else f"${row.cost:.2f} this month",
        row.url,
        row.note,
    ]
    return f"{row.app:<22} {', '.join(text for text in told if text)}"


def ago(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"
