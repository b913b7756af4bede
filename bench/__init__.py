"""Measurements of what Dormouse promises."""
