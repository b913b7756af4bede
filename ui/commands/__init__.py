"""What the `dormouse` command does with collections."""
