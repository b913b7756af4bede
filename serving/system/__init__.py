"""What every part needs of the operating system: files, processes, environment, log, time."""
