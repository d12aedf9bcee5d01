"""The comparison with any PyTorch DenseNet, the reference or somebody else's."""
