"""The Cold starts tab: a server's states, its starts, runs of the bench, and costs."""
