"""Makes the sample pages of the search corpus."""
