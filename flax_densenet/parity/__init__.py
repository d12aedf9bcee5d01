"""What "equal to PyTorch" means, and how it is shown."""
