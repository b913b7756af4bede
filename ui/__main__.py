"""The `dormouse` command."""

from __future__ import annotations

import pkgutil
import sys

from serving.system.processes import interruptible

USAGE = """usage: dormouse [COMMAND] [options]

  page     the search page and its embedder (default)
  engine   only the embedder, over HTTP; it sleeps while nobody searches
  bench    measure quality, speed and cold starts

collections, of a running page or of a data folder:
  add      files, folders and zips to a collection
  watch    a folder, which a collection follows
  search   a collection for the pages that answer a question
  list     the collections, or the files of one
  export   a collection as one zip
  import   an exported collection
  copy     collections from a data folder to a PostgreSQL, or back
  delete   a collection, or some of its files

on Modal:
  deploy   deploy both servers and the page to your Modal account
  status   show what is deployed, what runs now and what it has cost
  destroy  stop and delete what was deployed

`dormouse COMMAND --help` lists the options of a command, with examples.
"""
COMMANDS = {
    "page": "ui.app:main",
    "engine": "serving.__main__:main",
    "bench": "bench.__main__:main",
    "add": "ui.commands.addition:main",
    "watch": "ui.commands.watching:main",
    "search": "ui.commands.query:main",
    "list": "ui.commands.listing:main",
    "export": "ui.commands.transfer:export_main",
    "import": "ui.commands.transfer:import_main",
    "copy": "ui.commands.copying:main",
    "delete": "ui.commands.deletion:main",
    "deploy": "ui.deploy.deploy:main",
    "status": "ui.deploy.status:main",
    "destroy": "ui.deploy.deploy:destroy_main",
}


def main() -> int:
    with interruptible():
        arguments = sys.argv[1:]
        if arguments in (["-h"], ["--help"]):
            print(USAGE)
            return 0
        command = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "page"
        if command not in COMMANDS:
            print(USAGE, file=sys.stderr)
            return 2
        return int(pkgutil.resolve_name(COMMANDS[command])(arguments))


if __name__ == "__main__":
    sys.exit(main())
