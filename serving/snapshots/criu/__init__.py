"""Workers saved in files by criu."""
