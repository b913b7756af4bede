"""Measurements of what Dormouse promises."""

import importlib

import serving  # noqa: F401 - sets the environment of libraries that the bench imports itself

importlib.import_module("onnxruntime")  # before usearch, which would make its import end the process
