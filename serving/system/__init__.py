"""Files, processes, their environment, log and time: for every part, and without knowing any."""
