"""Measurements of what Dormouse promises."""

import serving  # noqa: F401 - sets the environment of libraries that the bench imports itself
