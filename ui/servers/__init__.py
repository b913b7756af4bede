"""The servers that the page can ask, and the state of each."""
