"""Result files, and statistics of what they hold."""
