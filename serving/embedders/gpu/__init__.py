"""GPU memory that a sleeping worker gives back."""
