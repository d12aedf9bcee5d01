"""DenseNet in PyTorch, the reference that the Flax network is compared with."""

from torch_reference.densenet import DenseBlock, DenseLayer, DenseNet, Transition

__all__ = ["DenseBlock", "DenseLayer", "DenseNet", "Transition"]
