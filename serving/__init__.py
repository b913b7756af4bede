"""Embedding workers, and the library their vectors go to."""

import os

# Read when onnxruntime is first imported, so it stands here.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's is on by default
