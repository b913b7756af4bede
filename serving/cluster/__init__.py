"""The embedders on a Ray cluster: what a replica and the front do."""
