"""How fast ingest, search, workers, snapshots, GPU servers and the page are."""
