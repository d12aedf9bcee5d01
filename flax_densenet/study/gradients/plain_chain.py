"""The same layers without the direct connections, to show what these do.

In a dense block, layer l reads the maps of all layers before it (paper, equation 2). In the chain
it reads only the maps of layer l - 1. Everything else is as in the dense network: depth, kind of
the layers (BN-ReLU-Conv), transitions, classifier and initial distributions.

| | dense block | chain |
|---|---|---|
| layer l of L reads | k0 + (l - 1) k maps | k0 maps if l = 1, else w |
| layer l gives | k maps | w maps |
| the block gives | k0 + L k maps | w maps |

With w = k the chain would have far fewer parameters. So w is chosen to give the chain as nearly as
possible as many parameters as the dense network has.

Axes: B batch, H height, W width, C channels.
"""

import bisect
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import (
    conv_scale,
    linear_scale,
)
from flax_densenet.network.layers import count_parameters
from flax_densenet.network.model import DenseBlock, DenseLayer, DenseNet


class ChainBlock(DenseBlock):
    """The layers of a dense block; each sees only the feature maps of the layer before it."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W w"]:
        """Returns the last layer's maps alone: [B, H, W, C] -> [B, H, W, w]."""
        for number in range(1, self.num_layers + 1):
            layer = DenseLayer(
                self.config, self.axis_name, self.freeze_batch_norm, name=f"denselayer{number}"
            )
            x = layer(x, train=train)
        return x


class PlainChain(DenseNet):
    """A DenseNet with the cifar stem whose blocks are chains, of width w = `config.growth_rate`.

    Its submodules have the dense network's names.
    """

    @nn.nowrap
    def dense_block(self, block: int, num_layers: int) -> ChainBlock:
        """Returns a chain by the number of its block, from 1."""
        return ChainBlock(
            self.config,
            num_layers,
            self.axis_name,
            self.freeze_batch_norm,
            name=f"denseblock{block}",
        )


def chain_config(config: DenseNetConfig) -> DenseNetConfig:
    """Returns the chain with the dense network's depth, stem and, nearly, number of parameters.

    Args:
      config: The dense network.

    Raises:
      InputError: The dense network has options, another stem or another type.
    """
    if config.stem != "cifar" or config.options or config.dtype != "float32":
        raise InputError(
            f"{config.title} cannot be compared with a plain chain, which has the cifar stem, no "
            "options and float32 alone; leave these flags out"
        )
    wanted = count_parameters(config)

    def with_width(width: int) -> DenseNetConfig:
        return dataclasses.replace(config, growth_rate=width, stem_width=config.stem_channels)

    @functools.cache
    def count(width: int) -> int:
        return count_chain_parameters(with_width(width))

    largest = 1
    while count(largest) < wanted:
        largest *= 2
    above = 1 + bisect.bisect_left(range(1, largest + 1), wanted, key=count)
    return with_width(min((max(1, above - 1), above), key=lambda w: abs(count(w) - wanted)))


def count_chain_parameters(config: DenseNetConfig) -> int:
    """Returns the trainable parameters of `PlainChain(config)`."""
    return sum(array.size for array in jax.tree.leaves(_shapes(config)["params"]))


def initialize_chain(config: DenseNetConfig, seed: int) -> dict[str, Any]:
    """Returns initial variables of `PlainChain(config)`, distributed as those of `initialize`.

    Args:
      config: The chain.
      seed: Decides them.
    """
    generator = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], array: jax.ShapeDtypeStruct) -> np.ndarray:
        shape, name = array.shape, path[-1].key
        if name == "kernel" and len(shape) == 4:
            values = conv_scale(shape) * generator.standard_normal(shape)
        elif name == "kernel":
            values = linear_scale(shape) * generator.uniform(-1, 1, shape)
        else:
            values = np.full(shape, 1 if name in ("scale", "var") else 0)
        return values.astype(array.dtype)

    return jax.device_put(jax.tree_util.tree_map_with_path(draw, _shapes(config)))


def _shapes(config: DenseNetConfig) -> dict[str, Any]:
    size = config.min_image_size
    image = jnp.zeros((1, size, size, config.in_channels))
    init = functools.partial(PlainChain(config).init, train=False)
    return dict(jax.eval_shape(init, jax.random.key(0), image))
