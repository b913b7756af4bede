"""Tests. Nothing here may reach outside this machine, and no setting of its user may change an outcome."""

import os

import serving  # noqa: F401 - sets the environment of libraries that tests import themselves

os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1")
