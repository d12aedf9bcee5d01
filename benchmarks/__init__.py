"""How fast DenseNet is, here and in PyTorch (docs/benchmarks.md)."""
