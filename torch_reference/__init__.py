"""DenseNet and its training in PyTorch: the reference for the Flax network.

Of `flax_densenet` it imports the configurations, the data and the errors, and no JAX code.
"""

from torch_reference.densenet import DenseBlock, DenseLayer, DenseNet, Transition

__all__ = ["DenseBlock", "DenseLayer", "DenseNet", "Transition"]
