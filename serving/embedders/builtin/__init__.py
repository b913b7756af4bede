"""The embedder that needs no GPU and no download."""
