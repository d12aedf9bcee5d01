"""DenseNet and its training in PyTorch, the reference that the Flax network is compared with.

Of `flax_densenet` it imports the configurations, the data and the errors, and no JAX code.
"""

from torch_reference.densenet import DenseBlock, DenseLayer, DenseNet, Transition

__all__ = ["DenseBlock", "DenseLayer", "DenseNet", "Transition"]
