"""The comparison with PyTorch: what "equal" means, and how it is shown."""
