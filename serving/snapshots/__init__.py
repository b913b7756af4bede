"""Saving warmed-up workers and restoring them."""
