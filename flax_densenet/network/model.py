"""DenseNet (https://arxiv.org/abs/1608.06993) in Flax Linen.

Axes: B batch, H height, W width, C channels; images are [B, H, W, C].

Every submodule has torchvision's name, so that a parameter's path is its state-dict key. To be read
beside torch_reference/densenet.py, which is the same in PyTorch. `flax_densenet.densenet` adds
other ways to compute the features.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.errors import InputError, require
from flax_densenet.network.activation import activation
from flax_densenet.network.attention import SqueezeExcitation
from flax_densenet.network.batch_norm import BatchNorm
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import check_x64, conv_kernel, linear_kernel


class DenseLayer(nn.Module):
    """BN-ReLU-Conv(3x3), with a bottleneck BN-ReLU-Conv(1x1) before it (paper, section 3)."""

    config: DenseNetConfig
    axis_name: str | None = None
    freeze_batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W k"]:
        """Returns the layer's new feature maps: [B, H, W, C] -> [B, H, W, growth_rate]."""
        cfg = self.config
        last, y = str(cfg.convolutions_per_layer), x
        if cfg.bottleneck:
            y = _composite(self, "1", _conv(cfg, cfg.bottleneck_channels, 1, "conv1"), y, train)
            if cfg.drops_every_convolution:
                y = _dropout(cfg)(y, deterministic=not train)
        conv = _conv(cfg, cfg.growth_rate, cfg.kernel_size, f"conv{last}", groups=cfg.groups)
        y = _composite(self, last, conv, y, train)
        if cfg.attention == "se":
            y = SqueezeExcitation(cfg, name="attention")(y)
        return _dropout(cfg)(y, deterministic=not train)


class DenseBlock(nn.Module):
    """Dense layers, each of which sees the feature maps of all before it (paper, equation 2)."""

    config: DenseNetConfig
    num_layers: int
    axis_name: str | None = None
    freeze_batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W D"]:
        """Returns input and new maps: [B, H, W, C] -> [B, H, W, C + num_layers growth_rate]."""
        features = [x]
        for number in range(1, self.num_layers + 1):
            layer = DenseLayer(
                self.config, self.axis_name, self.freeze_batch_norm, name=f"denselayer{number}"
            )
            features.append(self.grow(layer, features, train=train))
        return jnp.concatenate(features, axis=-1)

    @nn.nowrap
    def grow(self, layer: DenseLayer, features: list[jax.Array], *, train: bool) -> jax.Array:
        """Returns the maps that a layer adds to those of all before it."""
        return layer(jnp.concatenate(features, axis=-1), train=train)


class Transition(nn.Module):
    """BN-ReLU-Conv(1x1) and 2x2 average pooling, between two blocks (paper, section 3)."""

    config: DenseNetConfig
    axis_name: str | None = None
    freeze_batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B h w D"]:
        """Returns fewer, smaller maps: [B, H, W, C] -> [B, H // 2, W // 2, floor(theta C)]."""
        cfg = self.config
        conv = _conv(cfg, cfg.transition_channels(x.shape[-1]), 1, "conv")
        x = _composite(self, "", conv, x, train)
        if cfg.drops_every_convolution:
            x = _dropout(cfg)(x, deterministic=not train)
        pool = nn.max_pool if cfg.transition_pool == "max" else nn.avg_pool
        return pool(x, window_shape=(2, 2), strides=(2, 2))


class DenseNet(nn.Module):
    """The whole network: stem, dense blocks with transitions between them, classifier.

    In the order "conv-norm-act", that of many tutorials, BN and activation follow every convolution
    and stand nowhere else. The stem has them, so that a block reads normalized maps. The classifier
    has none before it, since all its maps are normalized already.

    Attributes:
      config: The network's description.
      axis_name: Mapped axis of `pmap` over which batch normalization takes its statistics; None
        under `jit`, where they are always those of the whole batch.
      freeze_batch_norm: Normalize by the running statistics in training, too, which stay as they
        are, as with `eval()` on PyTorch's batch normalizations alone.
    """

    config: DenseNetConfig
    axis_name: str | None = None
    freeze_batch_norm: bool = False

    def __call__(self, image: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B K"]:
        """Returns the logits of a batch of normalized images.

        Args:
          image: [B, H, W, in_channels], floating.
          train: Whether batch normalization uses the batch's statistics and dropout is active.
            Training needs `mutable=["batch_stats"]` and, with dropout, `rngs={"dropout": key}`.

        Returns:
          [B, num_classes] of the configuration's dtype.

        Raises:
          InputError: The image's type or shape does not suit the network.
        """
        return self.features(image, train=train, names=("logits",))["logits"]

    @nn.compact
    def features(
        self, image: Float[Array, "B H W C"], *, train: bool, names: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Returns features for detection, segmentation and the like, all from one pass.

        Nothing after the last block asked for is computed. Use it as
        `model.apply(variables, image, train=False, method="features")`.

        Args:
          image: [B, H, W, in_channels], floating.
          train: As for the logits.
          names: "denseblock1", "denseblock2"... are the outputs of the blocks, "norm5" that of the
            last normalization, each [B, h, w, C] and as torchvision's modules of these names.
            "last" is "norm5" after its ReLU, "pooled" [B, C] the mean of that over all pixels, and
            "logits" [B, num_classes]. All but the logits if not given.

        Returns:
          The outputs by name, in forward order.

        Raises:
          InputError: As for the logits, or there is no output of this name.
        """
        cfg = self.config
        known = cfg.feature_names
        wanted = set(known[:-1] if names is None else names)
        is_known = not isinstance(names, str) and wanted <= set(known)
        require(is_known, "names", names, f"a tuple of some of {', '.join(known)}")
        _check_image(cfg, image)
        if "logits" in wanted and not self.is_initializing():
            if not self.has_variable("params", "classifier"):
                raise InputError(
                    "the variables have no classifier; ask for features, as "
                    'apply(variables, image, train=False, method="features"), or give the weights '
                    "a classifier with create(..., num_classes=N, key=...)"
                )
        outputs = self.maps(image.astype(cfg.dtype), train=train, names=wanted)
        if "logits" in wanted:
            outputs["logits"] = nn.Dense(
                cfg.num_classes,
                kernel_init=linear_kernel,
                dtype=cfg.dtype,
                param_dtype=_parameter_type(cfg),
                name="classifier",
            )(outputs["pooled"])
        return {name: x for name, x in outputs.items() if name in wanted}

    @nn.nowrap
    def maps(self, x: Float[Array, "B H W C"], *, train: bool, names: set[str]) -> dict[str, Array]:
        """Returns the outputs of everything before the classifier by name, in forward order.

        Args:
          x: The image, [B, H, W, in_channels] of the configuration's dtype.
          train: As for the logits.
          names: Names of the outputs that will be read.
        """
        cfg, axis, freeze = self.config, self.axis_name, self.freeze_batch_norm
        outputs: dict[str, Array] = {}
        if cfg.stem == "imagenet":
            x = _conv(cfg, cfg.stem_channels, 7, "conv0", stride=2)(x)
        else:
            x = _conv(cfg, cfg.stem_channels, 3, "conv0")(x)
        if cfg.normalizes_stem:
            x = _norm_act(self, "0", x, train)
        if cfg.stem == "imagenet":
            x = stem_pool(x)
        last_block = len(cfg.block_sizes)
        for block, num_layers in enumerate(cfg.block_sizes, start=1):
            x = self.dense_block(block, num_layers)(x, train=train)
            outputs[f"denseblock{block}"] = x
            if names <= outputs.keys():
                return outputs
            if block != last_block:
                x = Transition(cfg, axis, freeze, name=f"transition{block}")(x, train=train)
        if cfg.normalizes_head:
            outputs["norm5"] = x = _norm(self, "5")(x, train=train)
            x = activation(cfg, "5")(x)
        outputs["last"] = x
        outputs["pooled"] = jnp.mean(x, axis=(1, 2))  # [B, C]
        return outputs

    @nn.nowrap
    def dense_block(self, block: int, num_layers: int) -> DenseBlock:
        """Returns a block by its number, from 1."""
        return DenseBlock(
            self.config,
            num_layers,
            self.axis_name,
            self.freeze_batch_norm,
            name=f"denseblock{block}",
        )


def stem_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Takes the largest of 3x3 at stride 2: [B, H, W, C] -> [B, (H+1) // 2, (W+1) // 2, C].

    One pixel of minus infinity is added on each side, as in PyTorch; "SAME" pads even sizes on one
    side only.
    """
    return nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def _composite(
    module: DenseLayer | Transition, number: str, conv: nn.Conv, x: jax.Array, train: bool
) -> jax.Array:
    """BN, ReLU and convolution (the paper's "composite function"), or in the order asked for."""
    if module.config.order == "conv-norm-act":
        return _norm_act(module, number, conv(x), train)
    return conv(_norm_act(module, number, x, train))


def _norm_act(
    module: DenseLayer | Transition | DenseNet, number: str, x: jax.Array, train: bool
) -> jax.Array:
    return activation(module.config, number)(_norm(module, number)(x, train=train))


def _norm(module: DenseLayer | Transition | DenseNet, number: str) -> BatchNorm:
    cfg = module.config
    return BatchNorm(
        cfg.batch_norm_momentum,
        cfg.batch_norm_epsilon,
        cfg.dtype,
        module.axis_name,
        frozen=module.freeze_batch_norm,
        name=f"norm{number}",
    )


def _conv(
    cfg: DenseNetConfig, features: int, size: int, name: str, *, stride: int = 1, groups: int = 1
) -> nn.Conv:
    return nn.Conv(
        features,
        kernel_size=(size, size),
        strides=(stride, stride),
        padding=size // 2,  # as PyTorch; "SAME" differs at stride 2 on even sizes
        feature_group_count=groups,
        use_bias=False,
        kernel_init=conv_kernel,
        dtype=cfg.dtype,
        param_dtype=_parameter_type(cfg),
        name=name,
    )


def _dropout(cfg: DenseNetConfig) -> nn.Dropout:
    return nn.Dropout(cfg.dropout_rate)


def _parameter_type(cfg: DenseNetConfig) -> jnp.dtype:
    return jnp.promote_types(cfg.dtype, jnp.float32)


def _check_image(cfg: DenseNetConfig, image: jax.Array) -> None:
    if image.ndim != 4:
        raise InputError(f"image has shape {image.shape}; wanted 4 axes, [B, H, W, C]")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise InputError(
            f"image has dtype {image.dtype}; wanted floating numbers, normalized by the data set's "
            "mean and standard deviation (flax_densenet.training.Preprocess does both)"
        )
    check_x64(cfg)
    _, height, width, channels = image.shape
    cfg.check_image(height=height, width=width, channels=channels)
