"""The non-linearity after a batch normalization, in PyTorch.

To be read beside flax_densenet/network/activation.py.
"""

from collections.abc import Callable

from torch import nn

from flax_densenet.network.fields import Activation

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
