"""The parity ladder: Flax and PyTorch compute the same network, layer for layer."""
