"""A server for tests of its parent: prints, answers, hangs or ends as its arguments say."""

from __future__ import annotations

import argparse
import signal
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port")
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--lines", type=int, default=0, help="lines to print first")
    parser.add_argument("--silent", action="store_true", help="never say that it is ready")
    parser.add_argument("--stays", action="store_true", help="do not stop when standard input ends")
    parser.add_argument("--code", type=int, default=0)
    options = parser.parse_args()
    for number in range(options.lines):
        print(f"line {number}", file=sys.stderr, flush=True)
    if options.code:
        return int(options.code)
    if not options.silent:
        print("Child is ready at http://127.0.0.1:1 as it says", flush=True)
    if options.stays:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    sys.stdin.read()
    return 3


if __name__ == "__main__":
    sys.exit(main())
