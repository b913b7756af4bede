"""Models behind one interface: pages and queries in, vectors out."""
