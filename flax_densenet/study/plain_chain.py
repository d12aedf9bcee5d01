"""The same layers without the direct connections, to show what these do.

Axes: B batch, H height, W width, C channels.

In a dense block, layer l reads the maps of all layers before it (paper, equation 2). In the chain
it reads those of layer l - 1 alone. Everything else is the dense network's: depth, kind of the
layers (BN-ReLU-Conv), transitions, classifier and initial distributions.

| | dense block | chain |
|---|---|---|
| layer l of L reads | k0 + (l - 1) k maps | k0 maps if l = 1, else w |
| layer l gives | k maps | w maps |
| the block gives | k0 + L k maps | w maps |

With w = k the chain would have a small part of the parameters. The width w is therefore the one
that gives the chain as many parameters as the dense network, as nearly as possible.
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

from flax_densenet.activation import relu
from flax_densenet.batch_norm import BatchNorm
from flax_densenet.config import DenseNetConfig
from flax_densenet.errors import InputError
from flax_densenet.initialization import conv_kernel, conv_scale, linear_kernel, linear_scale
from flax_densenet.layers import count_parameters
from flax_densenet.model import DenseLayer, DenseNet, Transition


class ChainBlock(nn.Module):
    """The layers of a dense block, each of which sees the feature maps of the one before it."""

    config: DenseNetConfig
    num_layers: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W w"]:
        """Returns the last layer's maps alone: [B, H, W, C] -> [B, H, W, w]."""
        for number in range(1, self.num_layers + 1):
            x = DenseLayer(self.config, self.axis_name, name=f"denselayer{number}")(x, train=train)
        return x


class PlainChain(DenseNet):
    """A DenseNet with the cifar stem whose blocks are chains, of width w = `config.growth_rate`.

    Its submodules have the dense network's names.
    """

    @nn.compact
    def __call__(self, image: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B K"]:
        """Returns the logits of a batch of normalized images, [B, H, W, C] -> [B, num_classes]."""
        cfg = self.config
        x = nn.Conv(
            cfg.stem_channels,
            (3, 3),
            padding=1,
            use_bias=False,
            kernel_init=conv_kernel,
            name="conv0",
        )(image)
        for block, num_layers in enumerate(cfg.block_sizes, start=1):
            x = ChainBlock(cfg, num_layers, self.axis_name, name=f"denseblock{block}")(
                x, train=train
            )
            if block != len(cfg.block_sizes):
                x = Transition(cfg, self.axis_name, name=f"transition{block}")(x, train=train)
        norm = BatchNorm(
            cfg.batch_norm_momentum, cfg.batch_norm_epsilon, axis_name=self.axis_name, name="norm5"
        )
        x = jnp.mean(relu(norm(x, train=train)), axis=(1, 2))  # [B, C]
        return nn.Dense(cfg.num_classes, kernel_init=linear_kernel, name="classifier")(x)


def chain_config(config: DenseNetConfig) -> DenseNetConfig:
    """Returns the chain with the dense network's depth, stem and, nearly, number of parameters.

    Args:
      config: The dense network.

    Raises:
      InputError: It has what the chain does not have.
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
    """Returns the variables of `PlainChain(config)`, of the distributions of `initialize`.

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
    init = functools.partial(PlainChain(config, formulation="plain").init, train=False)
    return dict(jax.eval_shape(init, jax.random.key(0), image))
