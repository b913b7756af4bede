"""Whether the embedder finds the right page, and whether two servers compute the same vectors."""
