"""The `dormouse` command."""

from __future__ import annotations

import sys

from serving.system.processes import interruptible

USAGE = """usage: dormouse [page|engine|bench|deploy|status|destroy] [options]

  page     the search page and its embedder (default)
  engine   only the embedder over HTTP, which sleeps while nobody asks
  bench    measure quality, speed and sleeping workers

  deploy   both servers and the page, to your Modal account
  status   what of it is there, what runs now, what it has cost
  destroy  stop it again

`dormouse COMMAND --help` tells the options of each.
"""


def main() -> int:
    """Run a command, and return the exit code."""
    with interruptible():
        return run(sys.argv[1:])


def run(arguments: list[str]) -> int:
    command = arguments[0] if arguments and not arguments[0].startswith("-") else "page"
    rest = arguments[1:] if arguments and arguments[0] == command else arguments
    if rest == arguments and rest in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if command == "page":
        from ui.app import main as page

        return page(rest)
    if command == "engine":
        from serving.__main__ import main as engine

        return engine(rest)
    if command == "bench":
        from bench.__main__ import main as bench

        return bench(rest)
    if command == "deploy":
        from ui.deploy.deploy import main as deploy

        return deploy(rest)
    if command == "status":
        from ui.deploy.status import main as status

        return status(rest)
    if command == "destroy":
        from ui.deploy.deploy import destroy_main

        return destroy_main(rest)
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
