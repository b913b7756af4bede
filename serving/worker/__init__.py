"""One embedder over HTTP, and the process that it runs in."""
