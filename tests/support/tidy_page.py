"""`python -m tests.support.tidy_page`: the page, which clears away all the time and not every ten minutes."""

from __future__ import annotations

import sys

from ui import app, server

if __name__ == "__main__":
    server.TIDY_S = 0.05
    sys.exit(app.main())
