"""The page's work without widgets: search, ingest jobs, background tasks and bench runs."""
