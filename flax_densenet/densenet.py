"""The public DenseNet: the network, and the choice of how it is computed.

Axes: B batch, H height, W width, C channels.
"""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from flax_densenet.errors import InputError
from flax_densenet.implementations.choose import Implementation, choose_implementation
from flax_densenet.implementations.variables import apply
from flax_densenet.network import model as network
from flax_densenet.network.model import DenseLayer

_FUSED = {"pooled", "logits"}  # the outputs that every implementation has


class DenseNet(network.DenseNet):
    """The whole network, computed in the way that suits the device.

    Attributes:
      config: The network's description.
      axis_name: Mapped axis of `pmap` over which batch normalization takes its statistics; None
        under `jit`, where they are always those of the whole batch.
      remat: Compute the dense layers a second time in the backward pass, instead of keeping their
        activations (https://arxiv.org/abs/1707.06990). Nothing else depends on it.
      implementation: How the features are computed: as in flax_densenet/network/model.py (plain),
        by compiled kernels of a CPU (native), block by block in its cache (blocked), or with fewer
        passes over the memory of a GPU (gpu). "auto" chooses, and is plain where outputs inside the
        network are wanted, which only plain has. Results are equal up to rounding.
      freeze_batch_norm: Normalize by the running statistics in training, too, which stay as they
        are, as with `eval()` on PyTorch's batch normalizations alone.

    Example:
      >>> import jax, flax_densenet
      >>> config = flax_densenet.DenseNetConfig(depth=10, growth_rate=4)
      >>> variables = flax_densenet.initialize(config, jax.random.key(0))
      >>> image = jax.numpy.zeros((2, 32, 32, 3))
      >>> flax_densenet.DenseNet(config).apply(variables, image, train=False).shape
      (2, 10)
    """

    remat: bool = False
    implementation: Implementation = "auto"

    @nn.nowrap
    def maps(self, x: Float[Array, "B H W C"], *, train: bool, names: set[str]) -> dict[str, Array]:
        """Returns the outputs before the classifier, as `flax_densenet.network.model.DenseNet`."""
        if self.is_initializing():
            return super().maps(x, train=train, names=names)
        shows_maps = not names <= _FUSED
        chosen = choose_implementation(
            self.implementation,
            self.config,
            train=train,
            axis_name=self.axis_name,
            captured=shows_maps or self.is_mutable_collection("intermediates"),
        )
        if chosen == "plain":
            return super().maps(x, train=train, names=names)
        if shows_maps:
            raise InputError(
                f"implementation (={chosen}) shows no feature maps; use auto, which chooses plain "
                "for them"
            )
        on_batch = train and not self.freeze_batch_norm
        return {"pooled": apply(chosen, self, self.config, x, train=on_batch, remat=self.remat)}

    @nn.nowrap
    def dense_block(self, block: int, num_layers: int) -> network.DenseBlock:
        """Returns a block by its number, from 1."""
        kind = _RecomputedBlock if self.remat else network.DenseBlock
        return kind(
            self.config,
            num_layers,
            self.axis_name,
            self.freeze_batch_norm,
            name=f"denseblock{block}",
        )


class _RecomputedBlock(network.DenseBlock):
    """A block whose layers are computed a second time in the backward pass."""

    @nn.nowrap
    def grow(self, layer: DenseLayer, features: list[jax.Array], *, train: bool) -> jax.Array:
        """Returns the maps that a layer adds; none of the joined maps is kept."""

        def grow(layer: DenseLayer, features: list[jax.Array]) -> jax.Array:
            return network.DenseBlock.grow(self, layer, features, train=train)

        return nn.remat(grow)(layer, features)
