"""Workers on a GPU, saved with the help of the CUDA driver."""
