"""An app on the local double of Modal, with the built-in embedder."""

from __future__ import annotations

APP = "bigemma3-hf-serve"
EMBEDDER = {"DORMOUSE_EMBEDDER": "builtin", "DORMOUSE_DEVICE": "cpu", "DORMOUSE_MODAL_GPU": ""}
