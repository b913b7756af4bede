"""The two servers on Modal, and the account they run in."""
