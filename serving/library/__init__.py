"""Collections of pages: SQLite, vectors in memory, search, backup, export and import."""
