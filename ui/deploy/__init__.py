"""The page on Modal, and the commands that deploy it with its servers."""
